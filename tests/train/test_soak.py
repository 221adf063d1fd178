"""Kills a run with SIGKILL at FER_SOAK_KILLS random moments, 20 by default: `make soak`."""

import os
import random
import time

import numpy as np
import pytest

from fer.train import checkpoints
from tests.train import factories
from tests.train.factories import final_state, start_training

KILLS = int(os.environ.get("FER_SOAK_KILLS", "20"))
STEPS = 40 + 30 * KILLS  # 20 steps per epoch
STARTUP_S = 15.0  # every fourth kill comes within this time of the start, perhaps before the first step


@pytest.mark.slow
def test_run_killed_many_times_ends_with_same_bits_as_uninterrupted_run(synthetic_shards, tmp_path):
    settings = factories.experiment(max_steps=STEPS, save_every_steps=3, ema_decay=0.9, steps_per_execution=4)
    settings.model.name = "compact_s"
    uninterrupted = start_training(settings, synthetic_shards.folder, tmp_path / "uninterrupted")
    output = uninterrupted.communicate()[0].decode()
    assert uninterrupted.returncode == 0, output

    random_times, workdir = random.Random(0), tmp_path / "killed"
    for number in range(KILLS):
        before = last_step(workdir)
        process, started = start_training(settings, synthetic_shards.folder, workdir), time.monotonic()
        if number % 4:  # kills during training, else at any time after the start
            while last_step(workdir) == before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(random_times.uniform(0, 1))
        else:
            time.sleep(random_times.uniform(0, STARTUP_S))
        assert process.poll() is None or last_step(workdir) == STEPS, process.communicate()[0].decode()
        process.kill()
        process.communicate()
        print(f"kill {number + 1}: {time.monotonic() - started:.1f} s after the start, step {last_step(workdir)} saved")
    process = start_training(settings, synthetic_shards.folder, workdir)
    output = process.communicate()[0].decode()
    assert process.returncode == 0, output
    expected, found = final_state(tmp_path / "uninterrupted", STEPS), final_state(workdir, STEPS)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def last_step(folder) -> int:
    """Returns the step of the last checkpoint; 0 without one."""
    return max(checkpoints.list_steps(str(folder / "checkpoints")), default=0)
