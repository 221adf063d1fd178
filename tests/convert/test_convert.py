"""Complete conversions: splits, records, errors, kills and full disks."""

import errno
import gzip
import hashlib
import json
import os
import pathlib
import resource
import signal
import subprocess
import threading
import time

import numpy as np
import pytest

from fer.convert import convert, shard_writer, worker_pool
from fer.convert.audit import audit_plots
from fer.convert.convert import Options
from fer.convert.readers import archives
from fer.convert.verify import verify
from fer.data import example_codec, manifest
from fer.errors import UserError
from fer.labels import CLASSES, FERPLUS_COLUMNS, FERPLUS_OF_CLASS
from fer.synthetic import synthetic
from tests.convert import input_factories
from tests.convert.readers.test_archives import make_tar

IMAGES = input_factories.noise(30)
LABELS = np.arange(30) % 7
SPLIT_OF = dict(zip(input_factories.USAGES, ("train", "validation", "test")))


@pytest.fixture
def source(tmp_path) -> str:
    return input_factories.write_file(tmp_path / "in" / "faces.csv", input_factories.make_csv(IMAGES))


def run(source: str, tmp_path: pathlib.Path, name: str = "out", **options) -> manifest.Manifest:
    return convert.convert(Options(input=source, output=str(tmp_path / name), **options))


def hash_files(folder: str) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in pathlib.Path(folder).iterdir()}


def check_conversion(made: manifest.Manifest, images: np.ndarray, labels, splits: list[str]) -> None:
    """Checks that the splits hold exactly the given faces, with their labels and rows."""
    assert verify(made.folder).sha256 == made.sha256
    assert sum(split.examples for split in made.splits.values()) == len(images)
    for name in made.splits:
        faces = example_codec.read_split(made, name)
        expected = [row for row, split in enumerate(splits) if split == name]
        assert faces.rows.tolist() == expected
        np.testing.assert_array_equal(faces.images.reshape(-1, 2304), images[expected])
        assert faces.labels.tolist() == [labels[row] for row in expected]


def test_convert_puts_every_row_into_its_split_with_its_label(source, tmp_path):
    check_conversion(
        run(source, tmp_path), IMAGES, LABELS, [SPLIT_OF[input_factories.USAGES[i % 3]] for i in range(30)]
    )


@pytest.mark.parametrize("output", ["in/out", "in"])
def test_convert_rejects_output_within_input(source, tmp_path, output):
    folder = os.path.dirname(source)
    with pytest.raises(UserError, match=rf"--output=.*{output} lies in .*/in, which is read"):
        run(folder, tmp_path, output, overwrite=True)
    assert os.listdir(folder) == ["faces.csv"]


def test_convert_records_statistics_of_train_split(source, tmp_path):
    made = run(source, tmp_path)
    train = IMAGES[::3] / 255
    assert made.statistics == pytest.approx({"mean": train.mean(), "std": train.std()}, rel=1e-12)


def test_convert_records_source(source, tmp_path):
    made = run(source, tmp_path)
    with open(source, "rb") as file:
        expected = hashlib.sha256(file.read()).hexdigest()
    assert made.name == "faces"
    assert (made.raw["source"]["path"], made.raw["source"]["sha256"]) == ("faces.csv", expected)
    assert made.raw["source"]["rows"] == 30


def test_convert_reads_table_without_labels_as_unlabelled_test_split(tmp_path):
    path = input_factories.write_file(
        tmp_path / "test.csv", "pixels\n" + "".join(f'"{input_factories.pixel_text(i)}"\n' for i in IMAGES)
    )
    made = run(path, tmp_path)
    check_conversion(made, IMAGES, [-1] * 30, ["test"] * 30)
    assert made.statistics == {"mean": None, "std": None}
    assert set(made.splits["test"].class_counts.values()) == {0}


def test_convert_numbers_rows_of_several_inputs_consecutively(source, tmp_path):
    other = input_factories.write_file(
        tmp_path / "test.csv.gz",
        gzip.compress(
            (
                "pixels\n" + "".join(input_factories.pixel_text(image) + "\n" for image in input_factories.noise(5, 1))
            ).encode()
        ),
    )
    made = run(f"{source},{other}", tmp_path)
    splits = [SPLIT_OF[input_factories.USAGES[i % 3]] for i in range(30)] + ["test"] * 5
    check_conversion(made, np.concatenate([IMAGES, input_factories.noise(5, 1)]), [*LABELS, *[-1] * 5], splits)
    assert made.raw["source"]["path"] == "faces.csv,test.csv.gz"
    assert [entry["rows"] for entry in made.raw["source"]["inputs"]] == [30, 5]


def test_convert_reads_official_splits_from_names_of_images(tmp_path):
    for row in range(30):
        folder = tmp_path / "archive" / ("train" if row % 3 == 0 else "test") / CLASSES[LABELS[row]]
        input_factories.write_file(
            folder / f"{input_factories.USAGES[row % 3]}_{row:03}.png", input_factories.encode_image(IMAGES[row])
        )
    made = run(str(tmp_path / "archive"), tmp_path)
    read = {name: example_codec.read_split(made, name) for name in made.splits}
    for split, start in (("train", 0), ("validation", 1), ("test", 2)):
        rows = list(range(start, 30, 3))
        expected = {(IMAGES[row].tobytes(), LABELS[row]) for row in rows}
        assert {(i.tobytes(), label) for i, label in zip(read[split].images, read[split].labels)} == expected


@pytest.mark.parametrize("depth", ["{}", "{}/happy"])
def test_convert_keeps_split_of_input_folders(depth, tmp_path):
    for row, image in enumerate(IMAGES):
        split = ("train", "validation", "test")[row % 3]
        input_factories.write_file(
            tmp_path / "three" / split / "happy" / f"{row:03}.png", input_factories.encode_image(image)
        )
    inputs = [str(tmp_path / "three" / depth.format(split)) for split in ("train", "validation", "test")]
    made = run(",".join(inputs), tmp_path)
    for number, split in enumerate(("train", "validation", "test")):
        faces = example_codec.read_split(made, split)
        assert faces.labels.tolist() == [CLASSES.index("happy")] * 10
        np.testing.assert_array_equal(faces.images.reshape(-1, 2304), IMAGES[number::3])


def test_convert_splits_by_seed_and_keeps_duplicates_together(tmp_path):
    images = input_factories.noise(300)
    images[1::2] = images[::2]
    rows = [f"{i // 2 % 7},{input_factories.pixel_text(image)}\n" for i, image in enumerate(images)]
    path = input_factories.write_file(tmp_path / "train.csv", "emotion,pixels\n" + "".join(rows))
    made = run(path, tmp_path, seed=1)
    split_of = {row: name for name in made.splits for row in example_codec.read_split(made, name).rows}
    assert [split_of[row] for row in range(0, 300, 2)] == [split_of[row] for row in range(1, 300, 2)]
    assert all(20 <= made.splits[name].examples <= 40 for name in ("validation", "test"))
    assert made.raw["audit"]["divided"] == {name: split.examples for name, split in made.splits.items()}
    assert run(path, tmp_path, "again", seed=1).sha256 == made.sha256
    assert run(path, tmp_path, "other", seed=2).splits != made.splits


def test_convert_of_synthetic_input_equals_generate_faces(synthetic_shards):
    images, labels = synthetic.generate_faces(400, seed=0)
    assert synthetic_shards.raw["source"]["path"] == "synthetic:400"
    for name in synthetic_shards.splits:
        faces = example_codec.read_split(synthetic_shards, name)
        np.testing.assert_array_equal(faces.images[..., 0], images[faces.rows])
        np.testing.assert_array_equal(faces.labels, labels[faces.rows])


def test_convert_repeats_bytes_for_same_input(source, tmp_path, monkeypatch):
    monkeypatch.setattr(audit_plots, "FACES_PER_CLASS", 2)
    one = run(source, tmp_path, "one", preview=True)
    other = run(source, tmp_path, "other", preview=True, overwrite=True)
    assert hash_files(one.folder) == hash_files(other.folder)


def test_convert_repeats_bytes_of_rejects(tmp_path):
    folder = tmp_path / "in"
    for place, content in enumerate(
        (input_factories.encode_image(IMAGES[0]), input_factories.encode_image(IMAGES[1]), b"no picture", b"GIF89a")
    ):
        input_factories.write_file(folder / "sad" / f"{place}.png", content)
    one, other = (run(str(folder), tmp_path, name, on_bad_row="quarantine") for name in ("one", "other"))
    assert one.raw["audit"]["rejected"] == {"bad picture": 2}
    assert hash_files(one.folder) == hash_files(other.folder)


def test_convert_writes_same_bytes_with_any_number_of_workers(large_csv, tmp_path, monkeypatch):
    alone = run(large_csv, tmp_path, "alone", workers=1)
    monkeypatch.setattr(worker_pool, "MIN_BYTES", 0)  # so that there are processes
    monkeypatch.setattr(archives, "CHUNK_BYTES", 1 << 16)  # and pieces for each of them
    shared = run(large_csv, tmp_path, "shared", workers=3)
    assert hash_files(alone.folder) == hash_files(shared.folder)


def test_convert_uses_processes_that_the_caller_started(large_csv, tmp_path, monkeypatch):
    alone = run(large_csv, tmp_path, "alone", workers=1)
    monkeypatch.setattr(worker_pool, "MIN_BYTES", 0)
    monkeypatch.setattr(archives, "CHUNK_BYTES", 1 << 16)
    monkeypatch.setattr(worker_pool, "BYTES_PER_PROCESS", os.path.getsize(large_csv))  # one process starts early
    options = convert.Options(input=large_csv, output=str(tmp_path / "early"))
    with worker_pool.start_early(2, os.path.getsize(large_csv)) as parsers:
        assert len(parsers._workers) == 1
        early = convert.convert(options, parsers)
        assert len(parsers._workers) == 2
    assert all(process.poll() is not None for process in parsers._workers)
    assert hash_files(alone.folder) == hash_files(early.folder)


def test_convert_leaves_nothing_of_a_failed_write_with_processes_of_the_caller(large_csv, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_pool, "MIN_BYTES", 0)
    others_write, folder_exists = threading.Event(), []

    def write(dataset, votes, job) -> None:
        if job.path.endswith("00000-of-00002.tfrecord"):
            others_write.wait(60)
            raise OSError(errno.ENOSPC, "No space left on device")
        others_write.set()
        time.sleep(0.5)
        folder_exists.append(os.path.isdir(os.path.dirname(job.path)))

    monkeypatch.setattr(shard_writer, "_write_shard", write)
    options = convert.Options(input=large_csv, output=str(tmp_path / "out"), shards=2)
    failed = pytest.raises(UserError, match=r"Cannot write .*out: No space left on device")
    with worker_pool.start_early(2, os.path.getsize(large_csv)) as parsers, failed:
        convert.convert(options, parsers)
    assert os.listdir(tmp_path) == []
    assert folder_exists == [True]  # the threads end before the folder is removed


def test_convert_error_names_dead_parser_process_and_leaves_nothing(source, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_pool, "MIN_BYTES", 0)  # so that there are processes
    start = worker_pool.ParserPool._start_worker
    started = []

    def start_and_kill(pool: worker_pool.ParserPool) -> subprocess.Popen:
        started.append(start(pool))
        started[-1].kill()  # as the system does when the memory is full
        return started[-1]

    monkeypatch.setattr(worker_pool.ParserPool, "_start_worker", start_and_kill)
    with pytest.raises(UserError, match=r"A parser process died \(exit code -9\): .* with fewer --workers\.$"):
        run(source, tmp_path, workers=2)
    assert os.listdir(tmp_path) == ["in"]
    assert [worker.returncode for worker in started] == [-9] * len(started) != []


def test_convert_joins_and_records_votes(source, tmp_path):
    columns = [FERPLUS_COLUMNS.index(name) for name in FERPLUS_OF_CLASS]
    votes = np.random.default_rng(0).multinomial(4, [0.1] * 10, 30)
    votes[np.arange(30), [columns[label] for label in LABELS]] += 6
    lines = [
        f"{input_factories.USAGES[i % 3]},fer{i:07d}.png," + ",".join(map(str, counts)) + "\n"
        for i, counts in enumerate(votes)
    ]
    ferplus = input_factories.write_file(
        tmp_path / "v.csv", "Usage,Image name," + ",".join(FERPLUS_COLUMNS) + "\n" + "".join(lines)
    )
    input_factories.write_file(tmp_path / "votes" / "v.csv", pathlib.Path(ferplus).read_bytes())
    made = run(source, tmp_path, ferplus=ferplus)
    faces = example_codec.read_split(made, "validation")
    np.testing.assert_array_equal(faces.votes, votes[faces.rows])
    assert made.raw["audit"]["ferplus"]["without_image_name"] == 0
    assert made.raw["options"]["ferplus"] == "v.csv"
    of_folder = run(source, tmp_path, "of_folder", ferplus=f"{tmp_path}/votes/")
    assert of_folder.raw["options"]["ferplus"] == "votes"


def test_convert_rejects_votes_for_images_without_rows(tmp_path):
    folder, ferplus = tmp_path / "in", tmp_path / "v.csv"
    for place in range(4):
        input_factories.write_file(
            folder / "happy" / f"Training_{place}.png", input_factories.encode_image(IMAGES[place])
        )
    row = "Training,fer.png,0,10,0,0,0,0,0,0,0,0\n"
    input_factories.write_file(ferplus, "Usage,Image name," + ",".join(FERPLUS_COLUMNS) + "\n" + 4 * row)
    with pytest.raises(UserError, match=r"v\.csv refers to rows of fer2013\.csv, and the pictures in in have no row"):
        run(str(folder), tmp_path, ferplus=str(ferplus))
    assert not (tmp_path / "out").exists()


def test_drop_removes_and_counts_train_rows_only(tmp_path):
    images = input_factories.noise(12)
    images[3] = images[1]  # row 1 is in validation, row 3 in train
    images[[6, 7]] = 0  # row 6 is in train, row 7 in validation
    made = run(
        input_factories.write_file(tmp_path / "f.csv", input_factories.make_csv(images)),
        tmp_path,
        drop=("blank", "leaked"),
    )
    train = example_codec.read_split(made, "train")
    assert train.rows.tolist() == [0, 9]
    assert made.statistics["mean"] == pytest.approx(train.images.mean() / 255)
    assert made.statistics["std"] == pytest.approx(train.images.std() / 255)
    assert made.splits["validation"].examples == made.splits["test"].examples == 4
    assert made.raw["audit"]["dropped"] == {"rows": 2, "by_reason": {"blank": 1, "leaked": 2}}


def test_convert_writes_audit_beside_shards(source, tmp_path):
    made = run(source, tmp_path)
    with open(os.path.join(made.folder, "audit.json")) as file:
        details = json.load(file)
    assert {key: details[key] for key in made.raw["audit"]} == made.raw["audit"]
    assert os.path.getsize(os.path.join(made.folder, "audit.html")) > 1000


BAD = {
    "2,303 pixels": ("1,{short},Training", "line 3, column pixels: 2,303 values where 48 x 48 = 2,304"),
    "a pixel of 256": ("1,256 {short},Training", "line 3, column pixels: value 1 is '256', above 255"),
    "a label of 7": ("7,{full},Training", "line 3, column emotion: '7' is no label"),
    "junk": ("<!-- junk -->", "line 3: 1 field where the header names 3"),
}


def csv_with_bad_row(kind: str) -> str:
    """Returns a CSV whose third line is a bad row."""
    pixels = input_factories.pixel_text(IMAGES[0])
    row = BAD[kind][0].format(full=pixels, short=pixels.rpartition(" ")[0])
    head, first, *rest = input_factories.make_csv(IMAGES).splitlines(keepends=True)
    return "".join([head, first, row + "\n", *rest])


@pytest.mark.parametrize("kind", BAD)
def test_convert_error_names_bad_row_and_leaves_nothing(kind, tmp_path):
    path = input_factories.write_file(tmp_path / "in" / "faces.csv", csv_with_bad_row(kind))
    with pytest.raises(UserError) as caught:
        run(path, tmp_path)
    assert str(caught.value).startswith(f"faces.csv, {BAD[kind][1]}")
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("kind", BAD)
def test_convert_quarantines_and_counts_bad_row(kind, tmp_path):
    path = input_factories.write_file(tmp_path / "in" / "faces.csv", csv_with_bad_row(kind))
    made = run(path, tmp_path, on_bad_row="quarantine")
    assert sum(made.raw["audit"]["rejected"].values()) == 1
    assert (made.raw["audit"]["rows"], made.raw["audit"]["faces"]) == (31, 30)
    faces = example_codec.read_split(made, "train")
    assert faces.rows.tolist() == [0, *range(4, 31, 3)]
    np.testing.assert_array_equal(faces.images.reshape(-1, 2304), IMAGES[::3])
    with open(os.path.join(made.folder, "rejects.csv")) as file:
        assert len(file.read().splitlines()) == 2


@pytest.mark.parametrize("header", ["emotion,pixels,Usage", "emotion,pixels,Usage\n\n", "pixels\n"])
def test_convert_rejects_table_without_rows(header, tmp_path):
    with pytest.raises(UserError, match=r"faces.csv holds no face"):
        run(input_factories.write_file(tmp_path / "in" / "faces.csv", header), tmp_path)
    assert os.listdir(tmp_path) == ["in"]


def test_convert_rejects_table_with_cr_line_ends(tmp_path):
    path = input_factories.write_file(
        tmp_path / "in" / "faces.csv", input_factories.make_csv(IMAGES[:2]).replace("\n", "\r")
    )
    with pytest.raises(UserError, match=r"^faces\.csv ends its lines with CR alone: save it with"):
        run(path, tmp_path)


@pytest.mark.parametrize("preview", [False, True])
def test_convert_rejects_drop_of_every_face(preview, tmp_path):
    images = np.zeros((3, 2304), np.uint8)
    path = input_factories.write_file(
        tmp_path / "in" / "faces.csv", input_factories.make_csv(images, usages=["Training"] * 3)
    )
    with pytest.raises(UserError, match=r"--drop=blank leaves no face of .*faces.csv"):
        run(path, tmp_path, drop=("blank",), preview=preview)
    assert os.listdir(tmp_path) == ["in"]


def test_convert_error_names_broken_link_in_input(tmp_path):
    input_factories.write_file(tmp_path / "in" / "sad" / "1.png", input_factories.encode_image(IMAGES[0]))
    (tmp_path / "in" / "sad" / "2.png").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"^.*in/sad/2.png is a link to nowhere, which does not exist"):
        run(str(tmp_path / "in"), tmp_path)


def test_convert_rejects_pipe(tmp_path):
    os.mkfifo(tmp_path / "in")
    with pytest.raises(UserError, match=r"in is neither a file nor a folder but a pipe"):
        run(str(tmp_path / "in"), tmp_path)
    assert os.listdir(tmp_path) == ["in"]


def test_convert_records_names_that_are_not_utf8(tmp_path):
    packed = make_tar({"café.csv": input_factories.make_csv(IMAGES).encode()}, encoding="latin-1")
    made = run(input_factories.write_file(tmp_path / "in" / "faces.tar", packed), tmp_path)
    assert made.raw["source"]["inputs"][0]["form"].startswith("faces.tar:caf\\xe9.csv: fer2013.csv")


def test_convert_rejects_input_of_bad_rows_alone_when_quarantined(tmp_path):
    path = input_factories.write_file(tmp_path / "in" / "faces.csv", "emotion,pixels\n1,2\n")
    with pytest.raises(UserError, match="holds no face"):
        run(path, tmp_path, on_bad_row="quarantine")
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"input": "/no/such.csv"}, r"There is no /no/such.csv"),
        ({"input": ","}, "--input names no path"),
        ({"input": "synthetic:0"}, "requests no face"),
        ({"ferplus": "/no/votes.csv"}, r"There is no /no/votes.csv"),
        ({"drop": ("ugly",)}, "--drop=ugly is not valid"),
        ({"drop": ("not_a_face",)}, "give them with --ferplus"),
        ({"seed": -1}, "--seed is -1"),
        ({"shards": -3}, "--shards is -3"),
        ({"workers": -1}, "--workers is -1"),
        ({"on_bad_row": "ignored"}, "--on_bad_row=ignored is not valid; it takes fail or quarantine"),
    ],
)
def test_convert_error_names_wrong_option_and_leaves_nothing(source, tmp_path, options, reason):
    with pytest.raises(UserError, match=reason):
        run(options.pop("input", source), tmp_path, **options)
    assert os.listdir(tmp_path) == ["in"]


def test_convert_keeps_old_output_after_error(source, tmp_path):
    old = run(source, tmp_path)
    with pytest.raises(UserError):
        run(input_factories.write_file(tmp_path / "bad.csv", csv_with_bad_row("junk")), tmp_path, overwrite=True)
    assert verify(old.folder).sha256 == old.sha256


def fork(work) -> int:
    """Runs a function in a child process. Returns the id of the process."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


@pytest.fixture(scope="module")
def large_csv(tmp_path_factory) -> str:
    """Writes a CSV of 300 training faces."""
    content = input_factories.make_csv(input_factories.noise(300), usages=["Training"] * 300)
    return input_factories.write_file(tmp_path_factory.mktemp("large_csv") / "faces.csv", content)


@pytest.mark.parametrize("moments", [6, pytest.param(20, marks=pytest.mark.extended)])
def test_convert_output_is_complete_or_absent_when_killed(large_csv, tmp_path, monkeypatch, moments):
    monkeypatch.setattr(worker_pool, "MIN_BYTES", 0)  # so that there are processes
    start = time.monotonic()
    whole = run(large_csv, tmp_path, "whole")
    took = time.monotonic() - start
    outcomes = []
    for moment in (*np.linspace(0, 1.5 * took, moments), *took * 2.0 ** np.arange(1, 7)):
        if moment > 1.5 * took and any(outcomes):
            break  # the later moments are for a child that is much slower than the first run
        child = fork(lambda: run(large_csv, tmp_path, workers=2))
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        outcomes.append((tmp_path / "out").exists())
        if outcomes[-1]:
            assert verify(str(tmp_path / "out")).sha256 == whole.sha256
            (tmp_path / "out").rename(tmp_path / f"done-{len(outcomes)}")
    assert set(outcomes) == {False, True}
    _, status = os.waitpid(fork(lambda: run(large_csv, tmp_path)), 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert verify(str(tmp_path / "out")).sha256 == whole.sha256
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


@pytest.mark.parametrize("limit", [0, 100_000, 700_000])
def test_convert_reports_full_disk_and_leaves_nothing(large_csv, tmp_path, limit):
    """Simulates a full disk by a limit on the size of files, which makes a write fail in the same way.

    The limits are reached while the faces (0.69 MB) or their single shard (0.72 MB) are written.
    """

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            run(large_csv, tmp_path, shards=1)
        except UserError as error:
            os._exit(42 if "Cannot write" in str(error) else 43)

    _, status = os.waitpid(fork(work), 0)
    assert os.waitstatus_to_exitcode(status) == 42
    assert os.listdir(tmp_path) == []
