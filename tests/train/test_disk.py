"""A disk that fills up while a run trains: a real one, of a few MiB."""

import json
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from fer.train import checkpoints, state
from tests.train import made

MIB = 24  # room for three checkpoints and what lies beside them, not for a fourth


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MIB}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_run_with_a_sentence_and_earlier_checkpoints_whole(
    small_disk, synthetic_shards, tmp_path, root
):
    settings = made.experiment(steps=200, checkpoint_steps=2)
    config = tmp_path / "config.py"
    config.write_text(
        f"from fer.config import from_dict\n\n\ndef get_config():\n    return from_dict({settings.to_dict()})\n"
    )
    workdir = small_disk / "run"
    flags = [f"--config={config}", f"--data={synthetic_shards.folder}", f"--workdir={workdir}"]
    command = [sys.executable, str(root / "scripts" / "train.py"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 1, done.stderr
    said = done.stderr.strip().splitlines()[-1]
    assert "Cannot write" in said
    assert "No space left on device" in said
    assert "run the same command again" in said
    assert "Traceback" not in done.stderr
    folder = str(workdir / "checkpoints")
    kept = checkpoints.steps(folder)
    assert kept
    fresh = state.create(tf.distribute.OneDeviceStrategy("CPU:0"), settings, 20, 200)
    assert checkpoints.restore(folder, fresh.trackable())["step"] == kept[-1] == int(fresh.step)
    assert json.loads((workdir / "config.json").read_text())["config"] == settings.to_dict()
    assert os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize < 12 * 2**20
