"""docs/aws.md and configs/aws: commands name existing programs and flags, and the scripts work as documented."""

import functools
import json
import os
import pathlib
import re
import runpy
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
COMMANDS = [path for path in SHELL if path.name != "restart.sh"]  # scripts with commands of ours


def read_commands(path: pathlib.Path) -> list[list[str]]:
    """Returns the command lines of a file that run one of our programs, split into words."""
    joined = path.read_text().replace("\\\n", " ")
    found = []
    for line in joined.splitlines():
        if path.suffix == ".md" and not line.startswith("    "):
            continue
        match = re.search(r"((scripts|configs/aws)/\w+\.py .*)", line)
        if match and not line.lstrip().startswith("#"):
            found.append(shlex.split(match[1].rstrip("&")))
    return found


def read_program_flags() -> dict[str, set[str]]:
    """Returns the names of the flags that each program defines."""
    known = {}
    for path in [*(ROOT / "scripts").glob("*.py"), *FOLDER.glob("*.py")]:
        text = path.read_text()
        defined = re.findall(r'(?:DEFINE_\w+|define_paths)\(\s*"(\w+)"', text)
        defined += re.findall(r'add_argument\(\s*"--(\w+)"', text)
        known[str(path.relative_to(ROOT))] = {*defined, "debug"}
    return known


@pytest.mark.parametrize("path", [ROOT / "docs" / "aws.md", *COMMANDS], ids=lambda path: path.name)
def test_commands_name_existing_programs_and_flags(path):
    known = read_program_flags()
    found = read_commands(path)
    assert found, f"{path} has no command"
    for program, *words in found:
        assert program in known, f"{path}: there is no {program}"
        for word in words:
            if word.startswith("--"):
                name = word[2:].partition("=")[0]
                assert name.partition(".")[0] in known[program], f"{path}: {program} has no flag --{name}"


def test_docs_name_existing_files_and_config_fields():
    from fer.config import check_overrides

    for path in [ROOT / "docs" / "aws.md", *SHELL]:
        text = path.read_text()
        for named in re.findall(r"\b((?:configs|scripts|docs)/[\w/]+\.\w+)", text):
            assert (ROOT / named).exists(), f"{path} names {named}"
        check_overrides([word for words in read_commands(path) for word in words if word.startswith("--config.")])


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_scripts_pass_shellcheck(path):
    subprocess.run([find_tool("shellcheck"), str(path)], check=True)


def test_dockerfile_passes_hadolint_and_is_pinned_and_not_root():
    subprocess.run([find_tool("hadolint"), str(ROOT / "Dockerfile")], check=True)
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^FROM nvidia/cuda:12\.2\.\d-cudnn8-runtime-ubuntu22\.04$", text, re.MULTILINE)
    assert "--require-hashes" in text
    assert re.search(r"^ARG RUN_AS=fer\nUSER \$\{RUN_AS\}$", text, re.MULTILINE)
    for copied in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for name in copied.split():
            assert (ROOT / name).exists(), name
            assert f"!{name}" in (ROOT / ".dockerignore").read_text().splitlines(), name


def find_tool(name: str) -> str:
    """Returns the path of a linter, beside this Python or on PATH. Skips the test where it is not installed."""
    found = shutil.which(name, path=os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


SDK = {
    "__init__.py": "",
    "inputs.py": "def TrainingInput(uri, input_mode):\n    return uri\n",
    "s3.py": """
import os, shutil
class S3Uploader:
    @staticmethod
    def upload(path, uri):
        shutil.copy(path, os.environ["PYTHONPATH"])
""",
    "estimator.py": """
import json
class Estimator:
    def __init__(self, **settings):
        self.settings = settings
    def fit(self, inputs, job_name):
        print(json.dumps({**self.settings, "inputs": inputs, "job_name": job_name}))
""",
}


def run_launcher(tmp_path: pathlib.Path, *flags: str) -> subprocess.CompletedProcess:
    """Runs the SageMaker launcher as in docs/aws.md, with the stub of the SDK in `tmp_path`."""
    command = [sys.executable, "configs/aws/sagemaker_launch.py", "--bucket=b", "--role=r", "--image=i", *flags]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    return subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)


@pytest.fixture
def sdk(tmp_path):
    """Writes the stub of the SDK to `tmp_path`."""
    (tmp_path / "sagemaker").mkdir()
    for name, text in SDK.items():
        (tmp_path / "sagemaker" / name).write_text(text)


def test_sagemaker_launch_requests_spot_and_checkpoint_folder(tmp_path, sdk):
    done = run_launcher(tmp_path, "--instances=2", "--hours=3", "--name=compact_long")
    asked = json.loads(done.stdout or done.stderr)
    assert (asked["use_spot_instances"], asked["max_run"], asked["max_wait"]) == (True, 10800, 21600)
    assert (asked["checkpoint_s3_uri"], asked["checkpoint_local_path"]) == (
        "s3://b/checkpoints/compact_long",
        "/opt/ml/checkpoints",
    )
    assert re.fullmatch(r"[0-9a-f]{32}", asked["environment"]["FER_RENDEZVOUS_TOKEN"])
    assert asked["inputs"] == {"tfrecords": "s3://b/tfrecords/fer2013"}
    assert re.fullmatch(r"fer-compact-long-[\d-]+", asked["job_name"])
    assert asked["container_entry_point"] == ["bash", f"/fer/{(FOLDER / 'sagemaker_entry.sh').relative_to(ROOT)}"]


def test_sagemaker_launch_uploads_code_for_image_without_it(tmp_path, sdk):
    """Runs the requested entry point on the uploaded archive, with /opt/ml and /fer in a temporary folder."""
    asked = json.loads(run_launcher(tmp_path, "--upload_code").stdout)
    assert asked["inputs"]["code"] == f"s3://b/code/{asked['job_name']}"
    assert all(len(word) <= 256 for word in asked["container_entry_point"])  # SageMaker's limit

    (tmp_path / "code").mkdir()
    (tmp_path / "fer.tar.gz").rename(tmp_path / "code" / "fer.tar.gz")
    log = tmp_path / "log"
    for name, text in {"pip": 'echo pip "$@"', "python": 'echo "$@"'}.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n[ $1 = -c ] && echo a a || {text} >> {log}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    here = {"/opt/ml/input/data": str(tmp_path), " /fer": f" {tmp_path}/fer"}
    words = asked["container_entry_point"] + asked["container_arguments"]
    words[2] = functools.reduce(lambda text, pair: text.replace(*pair), here.items(), words[2])
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "ML": "/ml"}
    subprocess.run(words, env=environment, check=True)
    installed, trained, _ = log.read_text().splitlines()
    assert installed == f"pip install --quiet {tmp_path}/fer"
    assert trained.startswith("scripts/train.py --data=/ml/input/data/tfrecords --workdir=/ml/checkpoints/run")
    assert trained.endswith("--config=configs/compact.py")
    assert not list((tmp_path / "fer").rglob("__pycache__"))


def test_sagemaker_launch_uploads_what_the_image_copies():
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    launch = runpy.run_path(str(FOLDER / "sagemaker_launch.py"))
    assert set(launch["CODE"]) == {name for names in copied for name in names.split()} - {"requirements.lock"}


def test_sagemaker_launch_reports_missing_sdk(tmp_path):
    (tmp_path / "sagemaker").mkdir()
    (tmp_path / "sagemaker" / "__init__.py").write_text("")
    done = run_launcher(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("The SageMaker SDK cannot be imported (No module named 'sagemaker.estimator'")


@pytest.mark.extended
def test_docker_image_installs_commands_from_copied_files(tmp_path):
    """Runs the Dockerfile's last installation on the files that it copies, then each command without the repository."""
    text = (ROOT / "Dockerfile").read_text()
    before, _, install = text.partition("RUN pip install --no-cache-dir --no-deps")
    assert install.splitlines()[0] == " --no-build-isolation ."
    image, prefix = tmp_path / "image", tmp_path / "prefix"
    image.mkdir()
    for copied in re.findall(r"^COPY (.+) \S+$", before, re.MULTILINE):
        for name in copied.split():
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, image / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, image / name)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    done = subprocess.run([*pip, f"--prefix={prefix}", "."], cwd=image, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (packages,) = prefix.glob("lib/python*/site-packages")
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    commands = sorted((prefix / "bin").glob("fer-*"))
    assert len(commands) == len([path for path in (ROOT / "scripts").glob("*.py") if path.stem != "__init__"])
    for command in commands:
        done = subprocess.run([str(command), "--help"], cwd=tmp_path, env=environment, text=True, capture_output=True)
        assert "--debug" in done.stdout + done.stderr, (command, done)
        assert "Traceback" not in done.stderr, command
    code = "import fer; print(fer.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert done.stdout.startswith(str(packages))


def test_cluster_head_node_and_queue_have_separate_subnets():
    subnets = re.findall(r"subnet-\w{17}", (FOLDER / "cluster.yaml").read_text())
    assert len(subnets) == len(set(subnets)) == 2


@pytest.mark.parametrize(
    ("code", "restarts", "ran", "ended"),
    [
        (0, 0, ["scripts/evaluate.py"], 0),
        (143, 10, ["requeue 7"], 0),
        (75, 9, ["requeue 7"], 0),
        (137, 9, ["requeue 7"], 0),
        (75, 10, [], 75),
        (1, 0, [], 1),
    ],
    ids=["trained", "stopped in good order", "worker lost", "killed", "too many restarts", "failed"],
)
def test_slurm_job_is_requeued_when_the_same_command_goes_on(tmp_path, code, restarts, ran, ended):
    stubs = {
        "bin/srun": f"test ${{#FER_RENDEZVOUS_TOKEN}} = 32 && exit {code}; exit 9",
        "bin/scontrol": f'echo "$@" >> {tmp_path}/log',
        ".venv/bin/python": f'echo "$1" >> {tmp_path}/log',
    }
    for name, line in stubs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "log").touch()
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "BUCKET": "b", "SLURM_JOB_ID": "7"}
    environment["SLURM_RESTART_COUNT"] = str(restarts)
    done = subprocess.run(["bash", str(FOLDER / "slurm.sh")], cwd=tmp_path, env=environment)
    assert done.returncode == ended
    assert (tmp_path / "log").read_text().splitlines() == ran


@pytest.mark.parametrize("script", ["instance.sh", "worker.sh"])
def test_script_repeats_interrupted_installation(tmp_path, script):
    """Stubs replace the interpreter: `python3 -m venv` creates the folder, and pip fails once."""
    for name, text in {
        "python3": "mkdir -p .venv/bin; ln -sf $0.venv .venv/bin/python; ln -sf $0.pip .venv/bin/pip",
        "python3.venv": f'echo "$1" >> {tmp_path}/log',
        "python3.pip": f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; exit 1; }}; echo pip >> {tmp_path}/log",
    }.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "BUCKET": "b"}
    command = ["bash", str(FOLDER / script), "10.0.0.11,10.0.0.12", "1"]
    codes = [subprocess.run(command, cwd=tmp_path, env=environment).returncode for _ in range(3)]
    assert (codes[0] != 0, codes[1:]) == (True, [0, 0])
    log = (tmp_path / "log").read_text().splitlines()
    assert (log.count("pip"), log.count("scripts/train.py")) == (1, 2)


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


def start_entry(tmp_path: pathlib.Path, current: str, seconds: float) -> tuple[subprocess.Popen, pathlib.Path]:
    """Starts the entry script of SageMaker with a stub of Python that logs its arguments."""
    log = tmp_path / "log"
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / "python"
    stub.write_text(STUB.format(python=sys.executable, log=log, seconds=seconds))
    stub.chmod(0o755)
    (tmp_path / "ml" / "input" / "config").mkdir(parents=True)
    resources = {"current_host": current, "hosts": ["algo-2", "algo-1"]}
    (tmp_path / "ml" / "input" / "config" / "resourceconfig.json").write_text(json.dumps(resources))
    environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "ML": str(tmp_path / "ml")}
    command = ["bash", str(FOLDER / "sagemaker_entry.sh"), "--config=configs/compact.py"]
    return subprocess.Popen(command, env=environment), log


@pytest.mark.parametrize(("current", "evaluates"), [("algo-1", True), ("algo-2", False)])
def test_sagemaker_entry_trains_on_every_host_and_evaluates_on_first(tmp_path, current, evaluates):
    process, log = start_entry(tmp_path, current, seconds=0)
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


def test_sagemaker_entry_forwards_sigterm_and_waits_for_training(tmp_path):
    process, log = start_entry(tmp_path, "algo-1", seconds=60)
    while not log.exists() or not log.read_text():
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    assert len(log.read_text().splitlines()) == 1  # and nothing is evaluated


def test_worker_script_builds_tf_config(tmp_path):
    stub = tmp_path / ".venv" / "bin" / "python"
    stub.parent.mkdir(parents=True)
    stub.write_text(f'#!/bin/sh\necho "$TF_CONFIG" >> {tmp_path}/log\necho "$@" >> {tmp_path}/log\n')
    stub.chmod(0o755)
    (tmp_path / ".venv" / "installed").touch()
    command = ["bash", str(FOLDER / "worker.sh"), "10.0.0.11:9000,10.0.0.12:9000,10.0.0.13", "0"]
    paths = {"DATA": "/shared/fer2013", "WORKDIR": "/shared/run"}
    subprocess.run(command, cwd=tmp_path, env={**os.environ, **paths}, check=True)
    config, trained, empty, evaluated = (tmp_path / "log").read_text().splitlines()
    assert json.loads(config) == {
        "cluster": {"worker": ["10.0.0.11:9000", "10.0.0.12:9000", "10.0.0.13:8470"]},
        "task": {"type": "worker", "index": 0},
    }
    assert trained.startswith(
        "scripts/train.py --config=configs/compact.py --data=/shared/fer2013 --workdir=/shared/run "
    )
    assert (empty, evaluated.split()[0]) == ("", "scripts/evaluate.py")


@pytest.mark.parametrize("script", ["instance.sh", "worker.sh", "sagemaker_entry.sh"])
def test_script_restarts_training(tmp_path, script):
    """A stub replaces the interpreter. The first training ends with 75, all later commands with 0."""
    for folder in (".venv/bin", "ml/input/config"):
        (tmp_path / folder).mkdir(parents=True)
    stub = tmp_path / ".venv" / "bin" / "python"
    fails_once = f"[ $(wc -l < {tmp_path}/log) != 1 ] || exit 75"
    stub.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/log\n{fails_once}\necho a a\n')
    stub.chmod(0o755)
    (tmp_path / ".venv" / "installed").touch()
    environment = {**os.environ, "BUCKET": "b", "RESTART_PAUSE": "0", "ML": str(tmp_path / "ml")}
    environment["PATH"] = f"{tmp_path}/.venv/bin:{os.environ['PATH']}"
    done = subprocess.run(["bash", str(FOLDER / script), "10.0.0.11", "0"], cwd=tmp_path, env=environment)
    assert done.returncode == 0
    programs = [line for line in (tmp_path / "log").read_text().splitlines() if line != "-c"]
    assert programs == ["scripts/train.py", "scripts/train.py", "scripts/evaluate.py"]


def start_command(tmp_path: pathlib.Path, command: str, **environment: str) -> subprocess.Popen:
    """Starts a script that restarts a Bash command. `begin` in the command counts its starts in the file log.

    Bash cannot trap a signal that is ignored when it starts, as below nohup or in the background of a script.
    """

    def accept_signals() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    program = f"set -euo pipefail; source {FOLDER}/restart.sh; restart bash -c {shlex.quote(command)}; echo goes on"
    environment = {**os.environ, "begin": f"echo start >> {tmp_path}/log", **environment}
    return subprocess.Popen(
        ["bash", "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=accept_signals,
    )


def count_starts(tmp_path: pathlib.Path) -> int:
    """Returns how often the command of `start_command` has started."""
    return len((tmp_path / "log").read_text().splitlines()) if (tmp_path / "log").exists() else 0


@pytest.mark.parametrize(
    ("codes", "starts"),
    [
        (["0"], 1),
        (["1"], 1),
        (["143"], 1),
        (["75", "137", "75", "0"], 4),
        (["75", "1"], 2),
        (["75"] * 4, 4),
    ],
    ids=["success", "error to correct", "stopped", "goes on", "error to correct after a restart", "too many restarts"],
)
def test_restart_repeats_command_that_can_go_on(tmp_path, codes, starts):
    command = f'eval "$begin"; codes=({" ".join(codes)}); exit ${{codes[$(wc -l < {tmp_path}/log) - 1]}}'
    process = start_command(tmp_path, command, MAX_RESTARTS="3", RESTART_PAUSE="0")
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, count_starts(tmp_path)) == (int(codes[-1]), starts)
    assert output == ("goes on\n" if codes[-1] == "0" else "")
    assert errors == "".join(
        f"Exit code {code}: restart {number} of 3 in 0 s.\n" for number, code in enumerate(codes[: starts - 1], 1)
    )


def test_restart_repeats_command_that_was_killed(tmp_path):
    command = f'eval "$begin"; [ $(wc -l < {tmp_path}/log) = 2 ] || kill -9 $$'
    process = start_command(tmp_path, command, RESTART_PAUSE="0")
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, count_starts(tmp_path)) == (0, 2)
    assert "Exit code 137: restart 1 of 10 in 0 s." in errors


def test_restart_pauses_longer_before_each_restart(tmp_path):
    began = time.monotonic()
    process = start_command(tmp_path, "exit 75", MAX_RESTARTS="2", RESTART_PAUSE="1")
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - began >= 3
    assert errors == "Exit code 75: restart 1 of 2 in 1 s.\nExit code 75: restart 2 of 2 in 2 s.\n"


@pytest.mark.parametrize(("name", "value"), [("MAX_RESTARTS", "-1"), ("RESTART_PAUSE", "1m"), ("RESTART_PAUSE", "08")])
def test_restart_rejects_settings_that_are_no_numbers(tmp_path, name, value):
    process = start_command(tmp_path, "exit 0", **{name: value})
    _, errors = process.communicate(timeout=30)
    message = f"MAX_RESTARTS and RESTART_PAUSE must be whole numbers, not '{value}'.\n"
    assert (process.returncode, errors) == (1, message)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_restart_forwards_signal_waits_for_command_and_does_not_restart(tmp_path, number):
    """The command ends with 75 after the signal, as a run does whose last upload fails."""
    stopping = f"trap 'sleep 0.3; echo stopped; exit 75' {number.name[3:]}"
    process = start_command(tmp_path, f'{stopping}; eval "$begin"; while :; do sleep 0.05; done')
    while not count_starts(tmp_path):
        time.sleep(0.01)
    process.send_signal(number)
    assert (*process.communicate(timeout=30), process.returncode) == ("stopped\n", "", 75)
    assert count_starts(tmp_path) == 1


def test_restart_ends_at_signal_during_pause(tmp_path):
    process = start_command(tmp_path, 'eval "$begin"; exit 75', RESTART_PAUSE="60")
    assert process.stderr.readline() == "Exit code 75: restart 1 of 10 in 60 s.\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert (process.returncode, count_starts(tmp_path)) == (143, 1)
