"""kill -9 at many random moments: `make soak`, with FER_SOAK_KILLS for another number than 20."""

import os
import random
import time

import numpy as np
import pytest

from fer.train import checkpoints
from tests.train import factories
from tests.train.factories import final_state, start_training

KILLS = int(os.environ.get("FER_SOAK_KILLS", "20"))
STEPS = 40 + 30 * KILLS  # 20 an epoch
STARTING = 15.0  # seconds within which a process is killed that need not have come to a step


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_bits_of_one_that_never_was(synthetic_shards, tmp_path):
    settings = factories.experiment(steps=STEPS, checkpoint_steps=3, ema_decay=0.9, steps_per_call=4)
    settings.model.name = "compact_s"
    whole = start_training(settings, synthetic_shards.folder, tmp_path / "whole")
    output = whole.communicate()[0].decode()
    assert whole.returncode == 0, output

    moments, found = random.Random(0), tmp_path / "killed"
    for number in range(KILLS):
        before = reached(found)
        process, started = start_training(settings, synthetic_shards.folder, found), time.monotonic()
        if number % 4:  # in training, else wherever it is by then
            while reached(found) == before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 1))
        else:
            time.sleep(moments.uniform(0, STARTING))
        assert process.poll() is None or reached(found) == STEPS, process.communicate()[0].decode()
        process.kill()
        process.communicate()
        print(f"kill {number + 1}: {time.monotonic() - started:.1f} s after the start, step {reached(found)} kept")
    process = start_training(settings, synthetic_shards.folder, found)
    output = process.communicate()[0].decode()
    assert process.returncode == 0, output
    expected, ended = final_state(tmp_path / "whole", STEPS), final_state(found, STEPS)
    assert expected.keys() == ended.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(ended[name], value, err_msg=name)


def reached(workdir) -> int:
    return max(checkpoints.list_steps(str(workdir / "checkpoints")), default=0)
