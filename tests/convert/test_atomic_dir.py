"""Output folders are complete or absent."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shutil

import pytest

from fer.convert import atomic_dir
from fer.errors import UserError
from fer.io import processes


def fill(folder: str, content: str) -> None:
    splits = {"train": {"shards": [{"file": "a.tfrecord"}]}}
    manifest = {"format_version": 1, "splits": splits, "created_by": "fer 1.0", "name": content}
    for name, text in {"a.tfrecord": content, "manifest.json": json.dumps(manifest)}.items():
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)


def write_output(output: str, content: str, overwrite: bool = False) -> None:
    with atomic_dir.atomic_directory(output, overwrite) as folder:
        fill(folder, content)


def read_content(output: str) -> str:
    with open(os.path.join(output, "manifest.json")) as file:
        return json.load(file)["name"]


@pytest.fixture
def output(tmp_path) -> str:
    return str(tmp_path / "above" / "faces")


def test_atomic_directory_creates_complete_folder_and_nothing_else(output):
    write_output(output, "new")
    assert sorted(os.listdir(output)) == ["a.tfrecord", "manifest.json"]
    assert os.listdir(os.path.dirname(output)) == ["faces"]


def test_atomic_directory_shows_nothing_before_end(output):
    with atomic_dir.atomic_directory(output, False) as folder:
        fill(folder, "new")
        assert not os.path.exists(output)


def test_atomic_directory_leaves_no_folder_after_error(output, tmp_path):
    (tmp_path / "before").mkdir()
    for path in (output, str(tmp_path / "before" / "deep" / "faces")):
        with contextlib.suppress(RuntimeError), atomic_dir.atomic_directory(path, False) as folder:
            fill(folder, "new")
            raise RuntimeError
    assert [path.name for path in tmp_path.rglob("*")] == ["before"]


def test_atomic_directory_keeps_created_parent_that_others_use(output):
    with contextlib.suppress(RuntimeError), atomic_dir.atomic_directory(output, False):
        pathlib.Path(output).with_name("notes.txt").write_text("precious")
        raise RuntimeError
    assert os.listdir(os.path.dirname(output)) == ["notes.txt"]


def test_atomic_directory_replaces_output_with_photo_overlap(output):
    write_output(output, "old")
    pathlib.Path(output, "photo_overlap.json").write_text("{}")
    atomic_dir.check_output(output, overwrite=True)
    write_output(output, "new", overwrite=True)
    assert read_content(output) == "new"
    assert sorted(os.listdir(output)) == ["a.tfrecord", "manifest.json"]


def test_atomic_directory_keeps_old_output_without_overwrite(output):
    write_output(output, "old")
    with pytest.raises(UserError, match="exists already"):
        write_output(output, "new")
    assert read_content(output) == "old"


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_atomic_directory_fills_empty_folder_without_overwrite(output, overwrite, linked):
    os.makedirs(output if not linked else os.path.join(os.path.dirname(output), "disk"))
    if linked:
        os.symlink("disk", output)
    write_output(output, "new", overwrite=overwrite)
    assert read_content(output) == "new"
    assert os.path.islink(output) == linked
    assert sorted(os.listdir(os.path.dirname(output))) == sorted(["faces", *["disk"] * linked])


def test_atomic_directory_keeps_empty_folder_after_error(output):
    os.makedirs(output)
    with contextlib.suppress(RuntimeError), atomic_dir.atomic_directory(output, False):
        raise RuntimeError
    assert os.listdir(output) == []


@pytest.mark.parametrize("name", [".", "../faces", "./"])
def test_atomic_directory_rejects_current_folder(name, output, monkeypatch):
    os.makedirs(output)
    monkeypatch.chdir(output)
    with pytest.raises(UserError, match=rf"^{name} is the current folder, which would be replaced"):
        write_output(name, "new", overwrite=True)
    assert os.listdir(output) == []


def test_check_rejects_root_of_disk():
    with pytest.raises(UserError, match=r"^/proc is the root of a disk, which cannot be replaced: name a folder in it"):
        atomic_dir.check_output("/proc", overwrite=True)


def test_atomic_directory_rejects_link_loop(tmp_path):
    (tmp_path / "faces").symlink_to("faces")
    with pytest.raises(UserError, match=r"^.*/faces is a link that leads back to itself"):
        write_output(str(tmp_path / "faces"), "new")


def test_atomic_directory_replaces_old_output_with_overwrite(output):
    write_output(output, "old")
    write_output(output, "new", overwrite=True)
    assert read_content(output) == "new"
    assert os.listdir(os.path.dirname(output)) == ["faces"]


def test_atomic_directory_keeps_old_output_until_new_is_complete(output):
    write_output(output, "old")
    with contextlib.suppress(RuntimeError), atomic_dir.atomic_directory(output, True) as folder:
        fill(folder, "new")
        assert read_content(output) == "old"
        raise RuntimeError
    assert read_content(output) == "old"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_atomic_directory_never_replaces_other_data(output, kind):
    os.makedirs(os.path.dirname(output) if kind == "file" else output)
    with open(output if kind == "file" else os.path.join(output, "thesis.txt"), "w") as file:
        file.write("precious")
    with pytest.raises(UserError, match="holds something other than a conversion"):
        write_output(output, "new", overwrite=True)
    assert os.path.exists(output)


@pytest.mark.parametrize(
    ("manifest", "fault"),
    [
        ('{"name": "shop", "short_name": "shop", "start_url": "/"}', "was written by something else"),
        ('{"format_version": 1, "splits": {}, "created_by": "shop 2"}', "was written by something else"),
        ('{"format_version": 1, "splits": [], "created_by": "fer 1.0"}', "was written by something else"),
        ('{"splits": {}, "created_by": "fer 1.0"}', "was written by something else"),
        ("[]", "was written by something else"),
        ('{"format_version": 1, "spl', "is damaged"),
        ("[" * 100_000, "is damaged"),
        ("\x80", "is damaged"),
    ],
    ids=["web application", "of another program", "no splits", "no version", "list", "cut", "nested", "binary"],
)
def test_atomic_directory_never_replaces_folder_with_foreign_manifest(tmp_path, manifest, fault):
    (tmp_path / "manifest.json").write_bytes(manifest.encode("latin-1"))
    with pytest.raises(
        UserError,
        match=f"holds something other than a conversion \\(its manifest.json {fault}\\): choose another --output",
    ):
        write_output(str(tmp_path), "new", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("name", ["thesis.txt", "b.tfrecord", "notes/today.txt"])
def test_atomic_directory_never_replaces_conversion_with_other_files(output, name):
    write_output(output, "old")
    other = pathlib.Path(output) / name
    other.parent.mkdir(exist_ok=True)
    other.write_text("precious")
    with pytest.raises(
        UserError, match=rf"something other than a conversion \(it also holds {name.partition('/')[0]}\)"
    ):
        write_output(output, "new", overwrite=True)
    assert (read_content(output), other.read_text()) == ("old", "precious")


def test_atomic_directory_replaces_target_of_link_and_keeps_link(tmp_path):
    link, disk = tmp_path / "faces", tmp_path / "disk"
    write_output(str(disk / "faces-1"), "old")
    link.symlink_to(os.path.join("disk", "faces-1"))
    for text in ("new", "newer"):
        write_output(str(link), text, overwrite=True)
        assert (read_content(str(disk / "faces-1")), link.is_symlink()) == (text, True)
    assert sorted(os.listdir(tmp_path)) == ["disk", "faces"]
    assert os.listdir(disk) == ["faces-1"]


def test_atomic_directory_creates_target_of_dangling_link(tmp_path):
    link = tmp_path / "faces"
    link.symlink_to(tmp_path / "disk" / "faces-1")
    write_output(str(link), "new")
    assert (read_content(str(tmp_path / "disk" / "faces-1")), link.is_symlink()) == ("new", True)


def test_atomic_directory_error_names_link_as_given(tmp_path):
    link = tmp_path / "faces"
    write_output(str(tmp_path / "disk"), "old")
    link.symlink_to("disk")
    with pytest.raises(UserError, match=f"^{link} exists already"):
        write_output(str(link), "new")


def test_atomic_directory_removes_remains_of_killed_run(output):
    for mark in ("partial-00000000", "partial-1111aaaa"):
        left = os.path.join(os.path.dirname(output), f".faces.{mark}")
        os.makedirs(left)
        fill(left, "half")
    write_output(output, "new")
    assert os.listdir(os.path.dirname(output)) == ["faces"]


def test_atomic_directory_keeps_partial_folder_of_live_run(output):
    living = os.path.join(os.path.dirname(output), ".faces.partial-00000000")
    os.makedirs(living)
    handle = os.open(living, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    write_output(output, "new")
    os.close(handle)
    assert sorted(os.listdir(os.path.dirname(output))) == [".faces.partial-00000000", "faces"]


def test_atomic_directory_keeps_its_folder_when_another_starts_before_its_lock(output, monkeypatch):
    try_lock, started = atomic_dir._try_lock, []

    def start_another(folder: str, stack: contextlib.ExitStack) -> bool:
        if not started:
            started.append(folder)
            atomic_dir._remove_leftovers(output)
        return try_lock(folder, stack)

    monkeypatch.setattr(atomic_dir, "_try_lock", start_another)
    with atomic_dir.atomic_directory(output, overwrite=False) as folder:
        fill(folder, "new")
        atomic_dir._remove_leftovers(output)
        assert os.path.isdir(folder)
    assert read_content(output) == "new"
    assert os.listdir(os.path.dirname(output)) == ["faces"]


@pytest.mark.parametrize("exists", [False, True])
def test_atomic_directory_ignores_leftovers_that_vanish(output, monkeypatch, exists):
    """Another conversion publishes its partial folder, and removes the replaced one, after they were listed."""
    if exists:
        write_output(output, "old")
    monkeypatch.setattr(atomic_dir, "_list_leftovers", lambda place, kind: [f"{place}.{kind}-00000000"])
    write_output(output, "new", overwrite=True)
    assert (read_content(output), os.listdir(os.path.dirname(output))) == ("new", ["faces"])


def test_atomic_directory_replaces_output_that_another_moves_without_lock(output, monkeypatch):
    write_output(output, "old")
    rename = os.rename

    def move_first(source: str, target: str) -> None:
        if source == output:
            shutil.rmtree(output)
        rename(source, target)

    monkeypatch.setattr(os, "rename", move_first)
    write_output(output, "new", overwrite=True)
    assert read_content(output) == "new"


def test_atomic_directory_removes_folder_of_run_killed_before_its_lock(output):
    killed = f".faces.partial-00000000.tmp-{processes.machine()}-99999999-89abcdef"
    os.makedirs(os.path.join(os.path.dirname(output), killed))
    write_output(output, "new")
    assert os.listdir(os.path.dirname(output)) == ["faces"]


def test_atomic_directory_restores_old_output_of_killed_run(output):
    write_output(output, "old")
    os.rename(output, os.path.join(os.path.dirname(output), ".faces.old-00000000"))
    with pytest.raises(UserError, match="exists already"):
        write_output(output, "new")
    assert read_content(output) == "old"


def test_atomic_directory_keeps_partial_folder_of_similar_name(output):
    other = os.path.join(os.path.dirname(output), ".faces2.partial-00000000")
    os.makedirs(other)
    write_output(output, "new")
    assert os.path.exists(other)


@pytest.mark.parametrize(
    "name", [".faces.old-archive", ".faces.partial-notes", ".faces.old-0000000", ".faces.old-00000000x"]
)
def test_atomic_directory_keeps_user_folder_of_similar_name(output, name):
    users = os.path.join(os.path.dirname(output), name)
    os.makedirs(users)
    write_output(output, "new")
    assert (read_content(output), os.path.exists(users)) == ("new", True)


def test_atomic_directory_restores_old_output_when_rename_fails(output, monkeypatch):
    write_output(output, "old")
    rename, targets = os.rename, []

    def fail_second(source: str, target: str) -> None:
        targets.append(target)
        if len(targets) == 2:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_second)
    with pytest.raises(UserError, match=rf"Cannot write {output}: Input/output error"):
        write_output(output, "new", overwrite=True)
    assert (read_content(output), os.listdir(os.path.dirname(output))) == ("old", ["faces"])


def test_sweep_keeps_old_output_that_live_run_replaces(output):
    """Between its two renames that run has no output folder."""
    write_output(output, "old")
    beside = os.path.dirname(output)
    old, living = os.path.join(beside, ".faces.old-00000000"), os.path.join(beside, ".faces.partial-00000000")
    os.rename(output, old)
    os.makedirs(living)
    with contextlib.ExitStack() as stack:
        atomic_dir._try_lock(living, stack)
        atomic_dir._remove_leftovers(output)
        assert (os.path.exists(old), os.path.exists(output)) == (True, False)
    atomic_dir._remove_leftovers(output)
    assert os.listdir(beside) == ["faces"]


def test_atomic_directory_keeps_output_that_appeared_meanwhile(output):
    def write_slowly() -> None:
        with atomic_dir.atomic_directory(output, overwrite=False) as folder:
            fill(folder, "new")
            write_output(output, "somebody's")

    with pytest.raises(UserError, match="exists already"):
        write_slowly()
    assert read_content(output) == "somebody's"


def test_atomic_directory_error_names_unwritable_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write .*file/faces"):
        write_output(str(tmp_path / "file" / "faces"), "new")
