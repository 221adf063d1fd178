"""docs/aws.md and configs/aws: every command names programs and flags that exist, and the scripts do what they say."""

import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "configs" / "aws"
SHELL = sorted(FOLDER.glob("*.sh"))


def commands(path: pathlib.Path) -> list[list[str]]:
    """The command lines of a file that run a Python program of ours, split into words."""
    joined = path.read_text().replace("\\\n", " ")
    found = []
    for line in joined.splitlines():
        if path.suffix == ".md" and not line.startswith("    "):
            continue
        match = re.search(r"((scripts|configs/aws)/\w+\.py .*)", line)
        if match and not line.lstrip().startswith("#"):
            found.append(shlex.split(match[1].rstrip("&")))
    return found


def programs() -> dict[str, set[str]]:
    """The flags of each program, read from what it defines."""
    known = {}
    for path in [*(ROOT / "scripts").glob("*.py"), *FOLDER.glob("*.py")]:
        text = path.read_text()
        defined = re.findall(r'(?:DEFINE_\w+|define_paths)\(\s*"(\w+)"', text)
        defined += re.findall(r'add_argument\(\s*"--(\w+)"', text)
        known[str(path.relative_to(ROOT))] = {*defined, "debug"}
    return known


@pytest.mark.parametrize("path", [ROOT / "docs" / "aws.md", *SHELL], ids=lambda path: path.name)
def test_every_command_names_a_program_and_flags_that_exist(path):
    known = programs()
    found = commands(path)
    assert found, f"{path} has no command"
    for program, *words in found:
        assert program in known, f"{path}: there is no {program}"
        for word in words:
            if word.startswith("--"):
                name = word[2:].partition("=")[0]
                assert name.partition(".")[0] in known[program], f"{path}: {program} has no flag --{name}"


def test_every_file_and_config_field_that_is_named_exists():
    from fer.config import check_overrides

    for path in [ROOT / "docs" / "aws.md", *SHELL]:
        text = path.read_text()
        for named in re.findall(r"\b((?:configs|scripts|docs)/[\w/]+\.\w+)", text):
            assert (ROOT / named).exists(), f"{path} names {named}"
        check_overrides([word for words in commands(path) for word in words if word.startswith("--config.")])


def test_the_links_of_the_page_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / "docs" / "aws.md").read_text()):
        assert (ROOT / "docs" / target).exists(), target


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_the_shell_scripts_parse_and_are_clean(path):
    subprocess.run([tool("shellcheck"), str(path)], check=True)


def test_the_dockerfile_is_clean_pinned_and_not_roots():
    subprocess.run([tool("hadolint"), str(ROOT / "Dockerfile")], check=True)
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^FROM nvidia/cuda:12\.2\.\d-cudnn8-runtime-ubuntu22\.04$", text, re.MULTILINE)
    assert "--require-hashes" in text
    assert re.search(r"^ARG RUN_AS=fer\nUSER \$\{RUN_AS\}$", text, re.MULTILINE)
    for copied in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for name in copied.split():
            assert (ROOT / name).exists(), name
            assert f"!{name}" in (ROOT / ".dockerignore").read_text().splitlines(), name


def tool(name: str) -> str:
    """The path of a linter, beside this Python or on the path."""
    found = shutil.which(name, path=os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_the_launcher_of_sagemaker_asks_for_spot_and_the_checkpoint_folder(monkeypatch):
    asked = {}

    class Estimator:
        def __init__(self, **settings):
            asked.update(settings)

        def fit(self, inputs, job_name):
            asked.update(inputs=inputs, job_name=job_name)

    class Fake:
        def __init__(self, **names):
            self.__dict__.update(names)

    monkeypatch.setitem(sys.modules, "sagemaker", Fake())
    monkeypatch.setitem(sys.modules, "sagemaker.estimator", Fake(Estimator=Estimator))
    monkeypatch.setitem(sys.modules, "sagemaker.inputs", Fake(TrainingInput=lambda uri, input_mode: uri))
    monkeypatch.setattr(
        sys, "argv", ["sagemaker.py", "--bucket=b", "--role=r", "--image=i", "--instances=2", "--hours=3"]
    )
    spec = importlib.util.spec_from_file_location("launcher", FOLDER / "sagemaker.py")
    launcher = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launcher)
    launcher.main()
    assert (asked["use_spot_instances"], asked["max_run"], asked["max_wait"]) == (True, 10800, 21600)
    assert (asked["checkpoint_s3_uri"], asked["checkpoint_local_path"]) == (
        "s3://b/checkpoints/compact",
        "/opt/ml/checkpoints",
    )
    assert asked["inputs"] == {"tfrecords": "s3://b/tfrecords/fer2013"}
    assert asked["container_entry_point"] == ["bash", f"/fer/{(FOLDER / 'sagemaker_entry.sh').relative_to(ROOT)}"]


STUB = """#!{python}
import os, signal, sys, time
if sys.argv[1] == "-c":
    os.execv("{python}", ["{python}", *sys.argv[1:]])
with open("{log}", "a") as file:
    print(*sys.argv[1:], file=file)
if sys.argv[1] == "scripts/train.py":
    signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), sys.exit(143)))
    time.sleep({seconds})
"""


def entry(tmp_path: pathlib.Path, current: str, seconds: float) -> tuple[subprocess.Popen, pathlib.Path]:
    """Starts SageMaker's entry script with a python that only notes what it was asked."""
    log = tmp_path / "log"
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / "python"
    stub.write_text(STUB.format(python=sys.executable, log=log, seconds=seconds))
    stub.chmod(0o755)
    (tmp_path / "ml" / "input" / "config").mkdir(parents=True)
    told = {"current_host": current, "hosts": ["algo-2", "algo-1"]}
    (tmp_path / "ml" / "input" / "config" / "resourceconfig.json").write_text(json.dumps(told))
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "ML": str(tmp_path / "ml")}
    command = ["bash", str(FOLDER / "sagemaker_entry.sh"), "--config=configs/compact.py"]
    return subprocess.Popen(command, env=environment), log


@pytest.mark.parametrize(("current", "evaluates"), [("algo-1", True), ("algo-2", False)])
def test_every_host_of_sagemaker_trains_and_the_first_one_evaluates(tmp_path, current, evaluates):
    process, log = entry(tmp_path, current, seconds=0)
    assert process.wait(timeout=60) == 0
    ml = tmp_path / "ml"
    asked = log.read_text().splitlines()
    assert asked[0] == (
        f"scripts/train.py --data={ml}/input/data/tfrecords --workdir={ml}/checkpoints/run --strategy=auto "
        "--config=configs/compact.py"
    )
    evaluation = (
        f"scripts/evaluate.py --workdir={ml}/checkpoints/run --data={ml}/input/data/tfrecords --split=validation"
    )
    assert asked[1:] == ([f"{evaluation} --output={ml}/model"] if evaluates else [])


def test_the_signal_that_sagemaker_sends_reaches_the_training_which_is_waited_for(tmp_path):
    process, log = entry(tmp_path, "algo-1", seconds=60)
    while not log.exists() or not log.read_text():
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    assert len(log.read_text().splitlines()) == 1  # and nothing is evaluated


def test_the_worker_script_builds_tf_config(tmp_path):
    stub = tmp_path / ".venv" / "bin" / "python"
    stub.parent.mkdir(parents=True)
    stub.write_text(f'#!/bin/sh\necho "$TF_CONFIG" >> {tmp_path}/log\necho "$@" >> {tmp_path}/log\n')
    stub.chmod(0o755)
    command = ["bash", str(FOLDER / "worker.sh"), "10.0.0.11,10.0.0.12", "0"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "BUCKET": "b"}, check=True)
    config, trained, empty, evaluated = (tmp_path / "log").read_text().splitlines()
    assert json.loads(config) == {
        "cluster": {"worker": ["10.0.0.11:8470", "10.0.0.12:8470"]},
        "task": {"type": "worker", "index": 0},
    }
    assert trained.startswith("scripts/train.py --config=configs/compact.py")
    assert (empty, evaluated.split()[0]) == ("", "scripts/evaluate.py")
