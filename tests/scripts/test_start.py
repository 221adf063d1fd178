"""Tests of the answers of all scripts before TensorFlow is imported: help, versions, wrong flags and paths."""

import glob
import os
import pathlib
import re
import sys

import pytest

import fer
from fer import help_text
from fer.config import Experiment, field_help, flatten
from tests.demo.photo import encoded, make_photo
from tests.scripts import fork_server

SCRIPTS = fork_server.ROOT / "scripts"
PROGRAMS = sorted(path.name for path in SCRIPTS.glob("[!_]*.py"))
CONFIGURED = ("train.py", "sweep.py")
# Required flags by script.
REQUIRED = {
    "benchmark.py": [],
    "compare.py": ["evals", "output"],
    "convert.py": ["input", "output"],
    "demo.py": ["workdir"],
    "evaluate.py": ["workdir", "data"],
    "export.py": ["workdir", "format", "output"],
    "gpu_check.py": [],
    "import_weights.py": ["source", "input", "output"],
    "photo_overlap.py": ["data"],
    "predict.py": ["input"],
    "soup.py": ["workdir", "data", "output"],
    "sweep.py": ["config", "data", "output"],
    "train.py": ["config", "data", "workdir"],
    "weight_delta.py": ["base", "output"],
}
NO_RUN = "There is no run folder nowhere; --workdir names one that scripts/train.py wrote"
NO_SHARDS = "nowhere has no manifest.json"
HAS_GPU_DRIVER = any(map(glob.glob, ("/dev/nvidia*", "/dev/kfd", "/dev/dxg")))
TRAIN = ["train.py", "--config=compact", "--data=nowhere", "--workdir=run"]
SWEEP = ["sweep.py", "--config=compact", "--data=nowhere", "--output=out"]
# Arguments and the beginning of the error message.
MISTAKES = [
    (["convert.py", "--input=nowhere.csv", "--output=out"], "There is no nowhere.csv: check the name."),
    (["convert.py", "--input=faces.csv,nowhere.csv", "--output=out"], "There is no nowhere.csv: check the name."),
    (["convert.py", "--input=faces.csv", "--ferplus=votes.csv", "--output=out"], "There is no votes.csv: check the"),
    (["convert.py", "--input=faces.csv", "--output=full"], "full exists already: choose another --output, or replace"),
    (
        ["convert.py", "--input=faces.csv", "--output=full", "--overwrite"],
        "full exists and holds something other than a conversion",
    ),
    (
        ["convert.py", "--input=full", "--label_map=hdfs://a/b.json", "--output=out"],
        "--label_map=hdfs://a/b.json: the scheme",
    ),
    (["convert.py", "--input=full", "--label_map=~/nowhere.json", "--output=out"], "There is no /"),
    (["convert.py", "--input=synthetic:1" + 4000 * "0", "--output=out"], "--input=synthetic:1000"),
    (
        ["convert.py", "--input=synthetic:10000001", "--output=out"],
        "--input=synthetic:10000001 requests more than 10,000",
    ),
    (["convert.py", "--input=synthetic:0", "--output=out"], "--input=synthetic:0 requests no face"),
    (["convert.py", "--input=faces.csv", "--output=out", "--drop=ugly"], "--drop=ugly is not valid; it takes leaked,"),
    (["convert.py", "--input=faces.csv", "--output=out", "--workers=257"], "--workers is 257; it must be 0 to 256."),
    (
        ["convert.py", "--input=faces.csv", "--output=out", "--shards=100000"],
        "--shards is 100000; it must be 0 to 99,999",
    ),
    (["convert.py", "--input=faces.csv", "--output=out", "--seed=-1"], "--seed is -1; it must be 0 or more"),
    (["convert.py", "--verify=nowhere"], NO_SHARDS),
    (
        [*TRAIN, "--config.train.max_stepz=3"],
        "There is no field config.train.max_stepz; the nearest is config.train.max_steps.",
    ),
    ([*TRAIN, "--config.train.epochs=0"], "config.train.epochs is 0; it must be 1 or more."),
    ([*TRAIN, "--config.train.epochs=few"], "flag --config.train.epochs=few: "),
    ([*TRAIN, "--config.optimizer.name=adam"], "config.optimizer.name is 'adam'; it must be sgd or adamw"),
    ([*TRAIN, "--config.model.name=compakt"], "There is no model 'compakt'; the nearest is compact."),
    (["train.py", "--list_models=*x9*"], "No model's name matches '*x9*'; --list_models alone prints all of them."),
    (
        [*TRAIN, "--config.model.weights=nowhere.npz"],
        "There is no weights file nowhere.npz, which config.model.weights",
    ),
    (
        [*TRAIN, "--config.model.weights=hdfs://a/b.npz"],
        "--config.model.weights=hdfs://a/b.npz: the scheme hdfs: is not",
    ),
    ([*TRAIN, "--storage_timeout=-1"], "flag --storage_timeout=-1: -1.0 is not a non-negative number"),
    ([*TRAIN, "--config.model.weights=folder.npz"], "folder.npz, which config.model.weights names, is a folder"),
    ([*TRAIN, "--config.model.weights=pipe.npz"], "pipe.npz is neither a file nor a folder but a pipe or a device"),
    ([*TRAIN, "--config.train.teacher_runs=full"], "config.train.teacher_runs: full holds no best.json"),
    (
        [*TRAIN, "--config.train.teacher_runs=full,https://a"],
        "--config.train.teacher_runs=https://a: the scheme https: is not",
    ),
    (
        [*TRAIN, "--config.augment.policy=flop"],
        "In the policy 'flop', there is no operation 'flop'; the nearest is flip.",
    ),
    (["benchmark.py", "--policy=flip(2)"], "In the policy 'flip(2)', flip's p is 2; it must be 0 to 1."),
    (
        [*TRAIN, "--config=ends.py"],
        "ends.py is no configuration (it ends the program with exit code 0); configs/ holds",
    ),
    (["predict.py", "--workdir=bundled", "--input=pipe.npz"], "pipe.npz is neither a file nor a folder but a pipe"),
    (["predict.py", "--workdir=bundled", "--input=faces.csv", "--output=/dev/fd/99"], "Cannot write /dev/fd/99: "),
    (["convert.py", "--input=pipe.npz", "--output=out"], "pipe.npz is neither a file nor a folder but a pipe"),
    (["convert.py", "--input=full", "--label_map=ftp://a?c=sad", "--output=out"], "--label_map=ftp://a?c=*** the"),
    ([*TRAIN, "--config=kompact"], "There is no configuration 'kompact'; the nearest is compact"),
    ([*TRAIN, "--strategy=two"], "flag --strategy=two: value should be one of <auto|one|mirrored|multi_worker>"),
    ([*TRAIN, "--workers=a:1"], "--workers needs --worker_index too"),
    (TRAIN, NO_SHARDS),
    ([*TRAIN[:3], "--preview=faces.png"], NO_SHARDS),
    (["evaluate.py", "--workdir=nowhere", "--data=full"], NO_RUN),
    (["evaluate.py", "--workdir=full", "--data=nowhere"], "full holds no best.json: train first"),
    (["evaluate.py", "--workdir=bundled", "--data=nowhere"], "--output is missing: bundled names a network within"),
    (["evaluate.py", "--workdir=bundled", "--data=nowhere", "--output=out"], NO_SHARDS),
    (["evaluate.py", "--workdir=results", "--data=nowhere"], "results holds saved predictions and no network"),
    (["evaluate.py", "--workdir=bundled", "--data=full", "--tta=twice"], "flag --tta=twice: value should be one of"),
    (["evaluate.py", "--workdir=", "--data=full"], "flag --workdir=[]: it must name a path"),
    (["predict.py", "--workdir=nowhere", "--input=faces.csv"], NO_RUN),
    (["predict.py", "--workdir=bundled", "--input=nowhere.jpg"], "There is no nowhere.jpg. --input takes a table"),
    (["predict.py", "nowhere/*.jpg", "--json"], "There is no nowhere/*.jpg. --input takes a table"),
    (
        ["predict.py", "https://example.com/a.jpg?key=1"],
        "https://example.com/a.jpg?key=*** is a URL: download it first",
    ),
    (["predict.py", "--input=HTTP://example.com/a.jpg"], "HTTP://example.com/a.jpg is a URL: download it first"),
    (["predict.py", "faces.csv", "hdfs://a/b.jpg"], "--input=hdfs://a/b.jpg: the scheme hdfs: is not supported;"),
    (["predict.py", "faces.csv", ""], "An input is empty: it must name a path."),
    (["predict.py", "faces.csv", "--boxes=nowhere.csv"], "There is no nowhere.csv, which --boxes names."),
    (["predict.py", "faces.csv", "--boxes=faces.csv"], "faces.csv, line 1: column path is missing among 'emotion, "),
    (["predict.py", "faces.csv", "--boxes=faces.csv", "--faces=find"], "--boxes names the faces, and --faces=find"),
    (
        ["predict.py", "full", "--boxes=faces.csv", "--output=./faces.csv"],
        "--output=./faces.csv would replace the file of",
    ),
    (["predict.py", "full", "--faces=find", "--fit=crop"], "--fit=crop is for whole images: add --faces=whole or omit"),
    (["predict.py", "faces.csv", "--kaggle"], "--kaggle writes a file: name it with --output."),
    (["predict.py", "faces.csv", "--json", "--output=a.json"], "--output=a.json would be a CSV file, and --json"),
    (["predict.py", "faces.csv", "--json", "--output=-"], "--json and --output=- both print to the standard output"),
    (["predict.py", "faces.csv", "--output=faces.csv"], "--output=faces.csv would replace a file of --input."),
    (["predict.py", "--workdir=bundled", "--input=faces.csv", "--output=full"], "Cannot write full: it is a folder."),
    (["export.py", "--workdir=nowhere", "--format=onnx", "--output=out"], NO_RUN),
    (["export.py", "--workdir=bundled", "--format=onnx", "--output=out", "--data=nowhere"], NO_SHARDS),
    (["export.py", "--workdir=bundled", "--format=onnx", "--output=out", "--precision=int8"], "--format=onnx has no"),
    (["compare.py", "--evals=nowhere/eval.json", "--output=out"], "There is no nowhere/eval.json: the evaluation is"),
    (["compare.py", "--evals=faces.csv", "--output=out"], "faces.csv is not valid JSON"),
    (["demo.py", "--workdir=nowhere"], NO_RUN),
    (["demo.py", "--workdir=bundled", "--port=70000"], "flag --port=70000: "),
    (["benchmark.py", "--output=faces.csv/out.json"], "Cannot write faces.csv/out.json: "),
    (["benchmark.py", "--suite=end_to_end", "--input=nowhere.csv"], "Cannot read nowhere.csv: "),
    (["benchmark.py", "--suite=end_to_end", "--torch_python=nowhere"], "Cannot start --torch_python=nowhere: "),
    (
        ["benchmark.py", "--update_doc=page.md", "--output=nowhere.json"],
        "There is no nowhere.json: the file of benchmark results",
    ),
    (["soup.py", "--workdir=nowhere,full", "--data=full", "--output=out"], NO_RUN),
    (["soup.py", "--workdir=bundled,nowhere", "--data=full", "--output=full"], "--output=full exists and is not empty"),
    ([*SWEEP, "--grid=seed=0,1"], NO_SHARDS),
    ([*SWEEP, "--grid=seed=0", "--storage=a.db"], "--storage=a.db is no storage: it takes journal:PATH or the address"),
    (
        [*SWEEP, "--grid=seed=0", "--storage=journal:faces.csv/a"],
        "--storage=journal:faces.csv/a: Cannot write faces.csv/",
    ),
    ([*SWEEP, "--grid=model.weights=hdfs://a/b.npz"], "--config.model.weights=hdfs://a/b.npz: the scheme hdfs: is not"),
    ([*SWEEP, "--grid=sead=0,1"], "There is no field sead"),
    ([*SWEEP, "--space=model.dropout=uniform(0.1,2)"], "config.model.dropout is 2.0; it must be 0 or more, below 1"),
    ([*SWEEP], "Give either --grid='seed=0,1,2'"),
    (["gpu_check.py", "--output=full"], "Cannot write full: it is a folder."),
    *([] if HAS_GPU_DRIVER else [(["gpu_check.py"], "TensorFlow finds no GPU on this machine. Check nvidia-smi")]),
    (
        ["import_weights.py", "--source=dlib", "--input=nowhere.dat", "--data=full", "--output=a.npz"],
        "There is no nowhere.dat: --input",
    ),
    (["import_weights.py", "--source=dlib", "--input=faces.csv", "--data=nowhere", "--output=a.npz"], NO_SHARDS),
    (
        ["import_weights.py", "--source=mobilefacenet", "--input=nowhere", "--data=full", "--output=a.npz"],
        "There is no nowhere: --input",
    ),
    (
        ["import_weights.py", "--source=mobilefacenet", "--input=faces.csv", "--data=nowhere", "--output=a.npz"],
        NO_SHARDS,
    ),
    (
        ["convert.py", "--verify=full", "--input=faces.csv"],
        "--input is for a conversion, and --verify converts",
    ),
    (["convert.py", "--verify=full", "--ferplus=faces.csv"], "--ferplus is for a conversion, and --verify converts"),
    (["compare.py", "--evals=results/eval.json", "--output=out", "--data=full"], "--data needs --baselines."),
    ([*SWEEP, "--grid=seed=0,1", "--trials=2"], "--trials needs --space."),
    ([*SWEEP, "--grid=seed=0,1", "--prune_after=5"], "--prune_after needs --pruning=median."),
    (
        [*SWEEP, "--space=seed=choice(0,1)", "--prune_after=5"],
        "--prune_after needs a --space without seed: a sweep over seeds prunes no trials, which would bias",
    ),
    (["benchmark.py", "--suite=train", "--policy=flip"], "--policy needs --suite=augment."),
    (["convert.py", "--input=faces.csv", "--output=out", "--cache_dir=s3://a/b"], "--cache_dir=s3://a/b: it must be"),
    (["photo_overlap.py", "--data=nowhere"], NO_SHARDS),
    (["weight_delta.py", "--base=a.npz", "--output=out"], "Give either --workdir, to make a delta, or --delta, to"),
    (["weight_delta.py", "--workdir=a", "--delta=b", "--base=a.npz", "--output=out"], "Give either --workdir, to make"),
    (["weight_delta.py", "--workdir=nowhere", "--base=a.npz", "--output=out"], NO_RUN),
    (["weight_delta.py", "--workdir=bundled", "--base=a.npz", "--output=out"], "There is no weights file a.npz: see"),
    (["weight_delta.py", "--delta=nowhere", "--base=faces.csv", "--output=out"], "There is no nowhere/delta.json"),
    (["weight_delta.py", "--delta=nowhere", "--base=faces.csv", "--output=full"], "--output=full exists and is not"),
    (["weight_delta.py", "--delta=full", "--base=a.npz", "--output=out"], "There is no weights file a.npz: see --base"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("start")
    (folder / "faces.csv").write_text("emotion,pixels,Usage\n")
    (folder / "ends.py").write_text("raise SystemExit(0)")
    (folder / "folder.npz").mkdir()
    os.mkfifo(folder / "pipe.npz")
    for name, file in (("full", "letter.txt"), ("results", "eval.json")):
        (folder / name).mkdir()
        (folder / name / file).write_text("{}")
    return folder


def list_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns all files and folders, without the bytecode that Python caches of a configuration file."""
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)


def only(folder: pathlib.Path, *command: str) -> fork_server.Run:
    (run,) = fork_server.run_all(folder, [command])
    return run


def test_help_exits_0_lists_every_flag_required_ones_first_and_loads_nothing_heavy(folder):
    assert sorted(REQUIRED) == PROGRAMS
    for program, run in zip(PROGRAMS, fork_server.run_all(folder, [[program, "--help"] for program in PROGRAMS])):
        assert (run.returncode, run.stderr, run.heavy) == (0, "", []), program
        source = (fork_server.ROOT / "scripts" / program).read_text()
        defined = re.findall(r"(?:DEFINE_\w+|define_inputs|define_paths|define_optional)\(\s*\"(\w+)\"", source)
        assert set(defined) <= set(run.flags), program
        own = run.stdout.partition(f"Flags of {program}:\n")[2].partition("\nFlags of every program:\n")[0]
        listed = re.findall(r"^  --(?:\[no\])?(\w+)(?:\[?=\S+)?( \(required\))?", own, re.MULTILINE)
        assert sorted(name for name, _ in listed) == sorted(run.flags), program
        required = len(REQUIRED[program])
        assert sorted(name for name, _ in listed[:required]) == sorted(REQUIRED[program])
        assert [bool(mark) for _, mark in listed] == [True] * required + [False] * (len(listed) - required)


def test_help_describes_every_field_of_a_configuration(folder):
    for run in fork_server.run_all(folder, [[program, "--help"] for program in CONFIGURED]):
        for path, value in flatten(Experiment().to_dict()).items():
            assert f"\n  --config.{path}={value if value != '' else repr(value)}\n" in run.stdout
        for path, (_, meaning) in field_help().items():
            shown = run.stdout.partition(f"\n  --config.{path}=")[2].partition("\n")[2].partition("\n  --")[0]
            assert " ".join(shown.split()).startswith(meaning), path


@pytest.mark.parametrize(
    ("flag", "holds", "lacks"),
    [
        ("-h", "--config.train.epochs=40", "--verbosity=N"),
        ("--helpshort", "Run directory; the same command resumes the run.", "--config.train.epochs"),
        ("--helpfull", "--verbosity=N", "import tensorflow"),
        ("--helpxml", "<name>workdir</name>", "Traceback"),
        ("--version", f"fer {fer.__version__}, TensorFlow 2.", "Flags of"),
    ],
)
def test_help_is_printed_despite_other_wrong_flags(folder, flag, holds, lacks):
    run = only(folder, "train.py", "--config=nowhere.py", "--bogus", flag)
    assert (run.returncode, run.stderr, run.heavy) == (0, "", [])
    assert holds in run.stdout
    assert lacks not in run.stdout


def test_help_that_stands_behind_two_dashes_or_is_a_value_is_no_question():
    assert help_text.requested_form(["train.py", "--", "--help"]) is None
    assert help_text.requested_form(["train.py", "--workdir=--help"]) is None
    assert help_text.requested_form(["train.py", "--nohelp"]) is None


def test_missing_flags_are_all_named_in_one_sentence(folder):
    programs = [program for program in PROGRAMS if REQUIRED[program]]
    for program, run in zip(programs, fork_server.run_all(folder, [[program] for program in programs])):
        names = [f"--{name}" for name in REQUIRED[program]]
        listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        verb = "are" if names[1:] else "is"
        sentence = f"{program}: {listed} {verb} missing: see {sys.executable} {SCRIPTS}/{program} --help.\n"
        assert (run.returncode, run.stdout, run.stderr, run.heavy) == (1, "", sentence, [])


def test_scripts_accept_flag_that_replaces_required_flags(folder):
    run = only(folder, "train.py", "--preview=faces.png")
    sentence = f"train.py: --config and --data are missing: see {sys.executable} {SCRIPTS}/train.py --help.\n"
    assert run.stderr == sentence


def test_scripts_error_names_wrong_flag(folder):
    for program, run in zip(PROGRAMS, fork_server.run_all(folder, [[program, "--bogus=1"] for program in PROGRAMS])):
        assert (run.returncode, run.stdout, run.heavy) == (1, "", [])
        hint = r"(\. Did you mean: \w+ \?)?"  # absl suggests flags of a similar name
        assert re.fullmatch(rf"{program}: Unknown command line flag 'bogus'{hint}\n", run.stderr)


def test_scripts_report_mistake_before_loading_tensorflow(folder):
    before = list_files(folder)
    for (command, sentence), run in zip(MISTAKES, fork_server.run_all(folder, [command for command, _ in MISTAKES])):
        assert run.stderr.startswith(f"{command[0]}: {sentence}"), (command, run.stderr)
        assert (run.returncode, run.stdout, run.stderr.count("\n"), run.heavy) == (1, "", 1, []), command
    assert list_files(folder) == before


@pytest.mark.extended
def test_prediction_of_a_photo_loads_what_it_needs_alone_and_says_what_it_found(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed: the extra photos brings it")
    (tmp_path / "photo.jpg").write_bytes(encoded(make_photo(), "JPEG"))
    run = only(tmp_path, "predict.py", "--workdir=bundled", "--input=photo.jpg", "--output=out.csv")
    assert (run.returncode, run.stderr, run.heavy) == (0, "", ["PIL", "cv2", "keras", "numpy", "tensorflow"])
    found = r"^2 faces from photo\.jpg\nphoto\.jpg#1: \w+ \d+ %(, \w+ \d+ %)?\nphoto\.jpg#2: "
    assert re.search(found, run.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("flag", "lines", "holds"), [("--list_models", 50, "efficientnet_b7"), ("--list_models=*b0*", 5, "_v2_b0")]
)
def test_models_are_listed_before_anything_heavy_is_loaded(folder, flag, lines, holds):
    run = only(folder, "train.py", flag)
    assert (run.returncode, run.stderr, run.heavy) == (0, "", [])
    assert len(run.stdout.splitlines()) >= lines
    assert holds in run.stdout


def test_versions_are_those_of_what_is_installed(folder):
    import tensorflow as tf

    assert f"TensorFlow {tf.__version__}, Python 3." in only(folder, "demo.py", "--version").stdout
