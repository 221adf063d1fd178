"""A disk that fills up while a run trains: a real one, of a few KiB."""

import json
import os
import subprocess

import pytest
import tensorflow as tf

from fer.train import checkpoints, train_state
from tests.scripts import run_script
from tests.train import factories, launch

KIB = 136  # holds three checkpoints and what lies beside them, not a fourth
CHECKPOINT = 32  # KiB, in pages of 4


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={KIB}k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_run_with_a_sentence_and_earlier_checkpoints_whole(
    small_disk, synthetic_shards, tmp_path
):
    settings = factories.experiment(steps=200, checkpoint_steps=2)
    config = launch.write_config(tmp_path, settings)
    workdir = small_disk / "run"
    flags = [f"--config={config}", f"--data={synthetic_shards.folder}", f"--workdir={workdir}"]
    done = run_script.run("train.py", tmp_path, *flags)
    assert done.returncode == 1, done.stderr
    said = done.stderr.strip().splitlines()[-1]
    assert "Cannot write" in said
    assert "No space left on device" in said
    assert "run the same command again" in said
    assert "Traceback" not in done.stderr
    folder = str(workdir / "checkpoints")
    kept = checkpoints.list_steps(folder)
    assert kept
    fresh = train_state.create_train_state(tf.distribute.OneDeviceStrategy("CPU:0"), settings, 20, 200)
    assert checkpoints.restore(folder, fresh.checkpoint())["step"] == kept[-1] == int(fresh.step)
    assert json.loads((workdir / "config.json").read_text())["config"] == settings.to_dict()
    assert os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize < CHECKPOINT * 2**10
