"""Two processes train as one: the same mathematics, one run folder, and none of them waits for a dead one."""

import json
import pathlib
import signal
import time

import numpy as np
import pytest

from fer.train import checkpoints, devices, loop
from tests.train import launching, made
from tests.train.test_loop import final_state

STEPS = 24  # 20 an epoch; over many more, rounding alone grows beyond 1e-5
LIMIT = 900.0  # seconds in which two workers start and train, on however busy a machine
FIGURES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "validation_macro_f1")


@pytest.fixture(scope="module")
def settings():
    experiment = made.experiment(steps=STEPS, checkpoint_steps=4, ema_decay=0.9)
    experiment.model.name = "compact_s"
    return experiment


@pytest.fixture(scope="module")
def config(settings, tmp_path_factory) -> pathlib.Path:
    return launching.config_file(tmp_path_factory.mktemp("config"), settings)


@pytest.fixture(scope="module")
def whole(config, synthetic_shards, tmp_path_factory) -> tuple[pathlib.Path, list[tuple[int, str, str]]]:
    """The folder and the words of a run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    return workdir, launching.outcomes(launching.start_two(config, synthetic_shards.folder, workdir), LIMIT)


def history(workdir: pathlib.Path) -> list[dict]:
    return json.loads((workdir / "history.json").read_text())


def test_two_workers_end_with_the_weights_and_figures_of_one_replica(settings, whole, synthetic_shards, tmp_path):
    """Promise 2, across processes: 40 faces are validated in batches of 16, so the last one is partial."""
    workdir, ended = whole
    assert [code for code, _, _ in ended] == [0, 0], ended
    loop.train(settings, synthetic_shards.folder, str(tmp_path / "one"), "one")
    expected, found = final_state(tmp_path / "one", STEPS), final_state(workdir, STEPS)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    for ours, theirs in zip(history(workdir), history(tmp_path / "one")):
        for figure in FIGURES:
            assert ours[figure] == pytest.approx(theirs[figure], abs=1e-5), figure


def test_only_the_chief_writes_and_speaks(whole):
    workdir, ((_, output, _), (_, other, errors)) = whole
    names = {"config.json", "history.json", "curves.png", "best.json", "checkpoints", "events"}
    assert {path.name for path in workdir.iterdir()} == names
    assert len(list((workdir / "events").iterdir())) == 1
    assert "python scripts/evaluate.py" in output
    assert other.splitlines() == [line for line in other.splitlines() if line.startswith("This is worker 1 of 2")]
    assert "Traceback" not in errors


def test_workers_stop_together_outlive_one_that_is_killed_and_go_on_to_the_same_bits(
    whole, config, synthetic_shards, tmp_path
):
    """SIGTERM to one of them, then kill -9 to one of them, then the same command to the end."""
    workdir = tmp_path / "run"
    started = launching.start_two(config, synthetic_shards.folder, workdir)
    launching.wait_for_step(started, workdir, 4, LIMIT)
    started[1].send_signal(signal.SIGTERM)
    ended = launching.outcomes(started, LIMIT)
    assert [code for code, _, _ in ended] == [143, 143], ended
    kept = checkpoints.steps(str(workdir / "checkpoints"))[-1]
    assert f"Stopped after step {kept} of {STEPS} as asked" in ended[0][2]
    assert f"stopped together with the others; the checkpoint is in {workdir}" in ended[1][2]

    started = launching.start_two(config, synthetic_shards.folder, workdir)
    launching.wait_for_step(started, workdir, kept + 4, LIMIT)
    started[1].kill()
    killed = time.monotonic()
    code, output, errors = launching.outcomes(started, LIMIT)[0]
    assert time.monotonic() - killed < 3 * devices.HEARTBEAT
    assert f"Going on after step {kept} of {STEPS}" in output
    assert (code, "Traceback" in errors) == (1, False), errors
    assert "Worker 0 of 2" in errors
    assert "lost another one" in errors

    ended = launching.outcomes(launching.start_two(config, synthetic_shards.folder, workdir), LIMIT)
    assert [code for code, _, _ in ended] == [0, 0], ended
    expected, found = final_state(whole[0], STEPS), final_state(workdir, STEPS)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    for figure in FIGURES:
        assert [entry[figure] for entry in history(whole[0])] == [entry[figure] for entry in history(workdir)], figure
