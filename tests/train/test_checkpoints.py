"""Checkpoints are whole or absent, and a damaged one is told from a sound one."""

import os

import pytest
import tensorflow as tf

from fer.errors import StorageError, UserError
from fer.io import files
from fer.train import checkpoints, nan_recovery


def counting(value: float) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(weights=tf.Variable([value, value]))


def restored(folder) -> tuple:
    state = counting(-1.0)
    return checkpoints.restore(str(folder), state), float(state.weights[0])


@pytest.fixture
def folder(tmp_path):
    for step in (10, 20, 30, 40):
        checkpoints.save(str(tmp_path), counting(float(step)), step, {"seconds": 1.5 * step})
    return tmp_path


def test_the_newest_comes_back_with_what_was_noted(folder):
    found, value = restored(folder)
    assert (found["step"], found["seconds"], value) == (40, 60.0, 40.0)


def test_only_the_newest_few_are_kept(folder):
    assert checkpoints.list_steps(str(folder)) == [20, 30, 40]


def test_the_newest_that_was_planned_outlives_those_that_stops_made(tmp_path):
    def planned(step: int) -> bool:
        return nan_recovery.is_planned(step, 20, 1000)

    for step in (20, 40, 43, 46, 49, 52):
        checkpoints.save(str(tmp_path), counting(float(step)), step, {}, planned)
    assert checkpoints.list_steps(str(tmp_path)) == [40, 46, 49, 52]
    assert nan_recovery.roll_back(str(tmp_path), [], 55, 20, 1000).to == 40


def test_nothing_saved_is_nothing_restored(tmp_path):
    assert restored(tmp_path / "absent") == (None, -1.0)


@pytest.mark.parametrize("damage", ["bit", "cut", "missing", "no record"])
def test_a_damaged_newest_is_reported_and_the_one_before_used(folder, capsys, damage):
    newest = folder / "step-00000040"
    data = newest / "state.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    if damage == "bit":
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
    elif damage == "cut":
        data.write_bytes(content[:-4])
    elif damage == "missing":
        (newest / "state.index").unlink()
    else:
        (newest / "checkpoint.json").unlink()
    assert restored(folder)[1] == 30.0
    assert "step-00000040 is damaged" in capsys.readouterr().out
    assert checkpoints.list_steps(str(folder)) == [20, 30]


def test_no_sound_one_is_a_sentence_and_none_is_removed(folder):
    for step in (20, 30, 40):
        (folder / f"step-{step:08d}" / "state.index").write_bytes(b"")
    with pytest.raises(UserError, match=r"All 3 checkpoints.*damaged .*step-00000020: state\.index has changed"):
        restored(folder)
    assert checkpoints.list_steps(str(folder)) == [20, 30, 40]


@pytest.mark.parametrize("unreadable", ["read_json", "sha256"])
def test_one_that_cannot_be_read_now_is_not_a_damaged_one(folder, monkeypatch, unreadable):
    readable, place = getattr(files, unreadable), "step-00000040"

    def away(path, *arguments):
        if place in path:
            raise files.read_error(path, tf.errors.UnavailableError(None, None, "slow down"))
        return readable(path, *arguments)

    monkeypatch.setattr(files, unreadable, away)
    with pytest.raises(StorageError, match=r"Cannot read .*step-00000040/.*: slow down"):
        restored(folder)
    assert checkpoints.list_steps(str(folder)) == [20, 30, 40]


@pytest.mark.parametrize(
    "other", [{"weights": [0.0, 0.0, 0.0]}, {"weights": [0.0, 0.0], "more": [0.0]}, {}], ids=["shape", "more", "less"]
)
def test_another_versions_state_is_a_sentence(folder, other):
    state = tf.train.Checkpoint(**{name: tf.Variable(value) for name, value in other.items()})
    with pytest.raises(UserError, match=r"step-00000040 holds another state than this version's"):
        checkpoints.restore(str(folder), state)
    assert checkpoints.list_steps(str(folder)) == [20, 30, 40]


def test_what_a_killed_run_left_is_no_checkpoint_and_is_cleaned_away(folder):
    half = folder / "step-00000050.tmp"
    half.mkdir()
    (half / "state.index").write_bytes(b"half")
    assert restored(folder)[0]["step"] == 40
    checkpoints.clean(str(folder))
    assert not half.exists()
    assert checkpoints.list_steps(str(folder)) == [20, 30, 40]


def test_a_failed_write_is_a_sentence_and_earlier_ones_stay(folder, monkeypatch):
    def full(*_args, **_keywords):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    state = counting(50.0)
    monkeypatch.setattr(state, "write", full)
    with pytest.raises(UserError, match=r"No space left on device\. .*earlier checkpoints are complete"):
        checkpoints.save(str(folder), state, 50, {})
    assert restored(folder)[0]["step"] == 40


def test_the_same_step_can_be_saved_again(folder):
    checkpoints.save(str(folder), counting(41.0), 40, {"seconds": 0})
    assert restored(folder)[1] == 41.0
    assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]
