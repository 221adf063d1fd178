"""Tests of scripts/train.py."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.scripts import run_script

SMALL = [
    "--config.model.name=tiny",
    "--config.model.image_size=24",
    "--config.train.global_batch_size=16",
    "--config.train.max_steps=3",
    "--config.optimizer.warmup_epochs=0",
]


def train(data: str, workdir: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    return run_script.run("train.py", run_script.ROOT, f"--data={data}", f"--workdir={workdir}", *arguments)


def test_train_prints_the_evaluation_command(trained_run, synthetic_shards):
    program = f"{sys.executable} {run_script.ROOT}/scripts/evaluate.py"
    command = f"{program} --workdir={trained_run} --data={synthetic_shards.folder}"
    assert command in run_script.printed(trained_run)
    recorded = json.loads((trained_run / "config.json").read_text())["config"]
    assert (recorded["train"]["max_steps"], recorded["model"]["name"]) == (40, "tiny")


def test_train_does_not_repeat_complete_run_and_rejects_another_config(trained_run, synthetic_shards, tmp_path):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    config = f"--config={trained_run.with_suffix('.py')}"
    again = train(synthetic_shards.folder, workdir, config)
    assert (again.returncode, "is complete: 40 steps" in again.stdout) == (0, True)
    other = train(synthetic_shards.folder, workdir, config, "--config.seed=1")
    assert other.returncode == 1
    assert "belongs to another config (seed: 0 -> 1)" in other.stderr


@pytest.mark.extended
def test_train_records_two_replicas(synthetic_shards, tmp_path):
    arguments = ["--config=configs/compact.py", *SMALL, "--config.train.num_replicas=2", "--strategy=mirrored"]
    done = train(synthetic_shards.folder, tmp_path / "run", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (recorded["train"]["max_steps"], recorded["model"]["image_size"]) == (3, 24)


@pytest.mark.extended
def test_train_preview_ends_without_traceback_in_a_process_of_its_own(synthetic_shards, tmp_path):
    # The ops are imported before TensorFlow, so their compiled functions would be deleted after its modules.
    arguments = ["--config=compact", f"--data={synthetic_shards.folder}", f"--preview={tmp_path / 'preview.png'}"]
    command = [sys.executable, str(run_script.ROOT / "scripts" / "train.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=run_script.ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "preview.png").exists()


def test_train_show_config_prints_resolved_fields_and_trains_nothing(tmp_path):
    done = run_script.run(
        "train.py", tmp_path, "--config=compact", "--config.train.epochs=7", "--show_config", "--noconfig.train.tf32"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "config.train.epochs = 7  # default: 40\n" in done.stdout
    assert "config.train.tf32 = False  # default: True\n" in done.stdout
    assert "config.model.weights = 'none'\n" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config is missing"),
        (["--config=configs/none.py"], "There is no config file 'configs/none.py'"),
        (["--config=configs/compact.py", "--config.train.max_stepz=3"], "the nearest is config.train.max_steps"),
        (["--config=configs/compact.py", "--config.train.max_steps=many"], "config.train.max_steps=many"),
        (["--config=configs/compact.py", "--config.train.precision=float8"], "config.train.precision is 'float8'"),
        (["--config", "compact", "--config.train.precision=float8"], "config.train.precision is 'float8'"),
        (["--config=configs/compact.py", "--strategy=all"], "--strategy=all"),
        (["--config=setup.cfg.py"], "There is no config file"),
        (["--config=configs/compact.py", "--preview=policy.png"], "At most one of (workdir, preview)"),
    ],
)
def test_train_reports_mistake_in_one_sentence_and_makes_no_folder(tmp_path, arguments, message):
    done = run_script.run(
        "train.py", run_script.ROOT, f"--data={tmp_path}/nowhere", f"--workdir={tmp_path}/run", *arguments
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


INVALID_CONFIGS = {  # content and reason of the error by file name
    "record.json": ('{"train": null}', ", for it is no Python file (.py)"),
    "empty.py": ("", " (it has no get_config())"),
    "cut.py": ("def get_config():\n    x = = 1\n", " (SyntaxError: invalid syntax (cut.py, line 2))"),
    "imports.py": ("import nowhere", " (ModuleNotFoundError: No module named 'nowhere')"),
    "raises.py": ("def get_config():\n    raise ValueError('no luck')\n", " (ValueError: no luck)"),
}


@pytest.mark.parametrize("name", INVALID_CONFIGS)
def test_train_error_names_file_that_is_no_config(name, tmp_path):
    content, why = INVALID_CONFIGS[name]
    (tmp_path / name).write_text(content)
    flags = [f"--config={name}", "--data=nowhere", "--workdir=run", "--config.train.max_steps=3"]
    done = run_script.run("train.py", tmp_path, *flags)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"train.py: {name} is no configuration{why}; configs/ holds examples.\n"
    debugged = run_script.run("train.py", tmp_path, *flags, "--debug")
    assert debugged.returncode == 1
    assert "Traceback" in debugged.stderr


@pytest.mark.extended
def test_preview_flag_draws_policy_without_training(synthetic_shards, tmp_path):
    path = tmp_path / "policy.png"
    arguments = [f"--data={synthetic_shards.folder}", f"--preview={path}", "--config.augment.policy=flip|erase(1.0)"]
    done = run_script.run("train.py", run_script.ROOT, "--config=configs/compact.py", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"wrote {path}\n", "")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]


def test_train_error_names_data_without_manifest(tmp_path):
    (tmp_path / "data").mkdir()
    flags = ["--config=configs/compact.py", f"--data={tmp_path}/data", f"--workdir={tmp_path}/run"]
    done = run_script.run("train.py", run_script.ROOT, *flags)
    assert done.returncode == 1
    assert "has no manifest.json" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_debug_shows_the_traceback(tmp_path):
    flags = ["--config=configs/compact.py", f"--data={tmp_path}", f"--workdir={tmp_path}/run", "--debug"]
    done = run_script.run("train.py", run_script.ROOT, *flags)
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_train_init_from_error_names_missing_run_before_tensorflow_loads(synthetic_shards, tmp_path):
    flags = ["--config=configs/compact.py", *SMALL, "--init_from=runs/absent", "--config.model.weights=absent.npz"]
    done = train(synthetic_shards.folder, tmp_path / "run", *flags)
    assert done.returncode == 1
    assert "--init_from: There is no run folder runs/absent" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
