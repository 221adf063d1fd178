"""Checks a run whose disk fills up, on a real file system of a few KiB."""

import json
import os
import subprocess

import pytest
import tensorflow as tf

from fer.train import checkpoints, preflight, train_state
from tests.scripts import run_script
from tests.train import factories, launch

DISK_KIB = 136  # holds three checkpoints and the other files of a run, but not a fourth checkpoint
CHECKPOINT_KIB = 32  # in pages of 4 KiB


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of `DISK_KIB` KiB and yields its path."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_train_raises_user_error_and_keeps_checkpoints_when_disk_is_full(small_disk, synthetic_shards, tmp_path):
    settings = factories.experiment(max_steps=200, save_every_steps=2)
    config = launch.write_config(tmp_path, settings)
    workdir = small_disk / "run"
    flags = [f"--config={config}", f"--data={synthetic_shards.folder}", f"--workdir={workdir}"]
    result = run_script.run("train.py", tmp_path, *flags)
    assert result.returncode == 1, result.stderr
    message = result.stderr.strip().splitlines()[-1]
    assert "Cannot write" in message
    assert "No space left on device" in message
    assert "run the same command again" in message
    assert "Traceback" not in result.stderr
    folder = str(workdir / "checkpoints")
    steps = checkpoints.list_steps(folder)
    assert steps
    fresh = train_state.create_train_state(tf.distribute.OneDeviceStrategy("CPU:0"), settings, 20, 200)
    assert checkpoints.restore(folder, fresh.checkpoint()).step == steps[-1] == int(fresh.step)
    recorded = json.loads((workdir / "config.json").read_text())["config"]
    assert recorded == preflight.resolve_execution(settings).to_dict()
    assert os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize < CHECKPOINT_KIB * 2**10
