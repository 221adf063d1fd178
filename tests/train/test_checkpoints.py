"""Checks that checkpoints are complete or absent, and that damage is detected."""

import os

import pytest
import tensorflow as tf

from fer.errors import StorageError, UserError
from fer.io import files
from fer.run_dir import CheckpointRecord
from fer.train import checkpoints, nan_recovery


def make_state(value: float) -> tf.train.Checkpoint:
    """Makes a state whose weights all have one value."""
    return tf.train.Checkpoint(weights=tf.Variable([value, value]))


def restore(folder) -> tuple:
    """Returns the record of the restored checkpoint and a restored weight, which is -1.0 if nothing was restored."""
    state = make_state(-1.0)
    return checkpoints.restore(str(folder), state), float(state.weights[0])


@pytest.fixture
def folder(tmp_path):
    for step in (10, 20, 30, 40):
        checkpoints.save(str(tmp_path), make_state(float(step)), CheckpointRecord(step, 1.5 * step))
    return tmp_path


def test_restore_returns_newest_checkpoint_and_its_record(folder):
    found, value = restore(folder)
    assert (found.step, found.seconds, value) == (40, 60.0, 40.0)


def test_save_keeps_only_the_newest_checkpoints(folder):
    assert checkpoints.list_steps(str(folder)) == [20, 30, 40]


def test_save_keeps_newest_planned_checkpoint_beside_those_of_stops(tmp_path):
    def planned(step: int) -> bool:
        return nan_recovery.is_planned(step, 20, 1000)

    for step in (20, 40, 43, 46, 49, 52):
        checkpoints.save(str(tmp_path), make_state(float(step)), CheckpointRecord(step), planned)
    assert checkpoints.list_steps(str(tmp_path)) == [40, 46, 49, 52]
    assert nan_recovery.roll_back(str(tmp_path), [], 55, 20, 1000).to == 40


def test_restore_returns_none_when_nothing_was_saved(tmp_path):
    assert restore(tmp_path / "absent") == (None, -1.0)


@pytest.mark.parametrize("damage", ["bit", "cut", "missing", "no record"])
def test_restore_reports_damaged_checkpoint_and_uses_the_one_before(folder, capsys, damage):
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
        (newest / "checkpoint.json").write_bytes(b"")
    assert restore(folder)[1] == 30.0
    assert "step-00000040 is damaged" in capsys.readouterr().out
    assert checkpoints.list_steps(str(folder)) == [20, 30]


def test_restore_raises_user_error_and_removes_nothing_when_all_are_damaged(folder):
    for step in (20, 30, 40):
        (folder / f"step-{step:08d}" / "state.index").write_bytes(b"")
    with pytest.raises(UserError, match=r"All 3 checkpoints.*damaged .*step-00000020: state\.index has changed"):
        restore(folder)
    assert checkpoints.list_steps(str(folder)) == [20, 30, 40]


@pytest.mark.parametrize("unreadable", ["read_json", "sha256"])
def test_restore_does_not_treat_unreadable_checkpoint_as_damaged(folder, monkeypatch, unreadable):
    readable, name = getattr(files, unreadable), "step-00000040"

    def raise_unavailable(path, *arguments):
        if name in path:
            raise files.read_error(path, tf.errors.UnavailableError(None, None, "slow down"))
        return readable(path, *arguments)

    monkeypatch.setattr(files, unreadable, raise_unavailable)
    with pytest.raises(StorageError, match=r"Cannot read .*step-00000040/.*: slow down"):
        restore(folder)
    assert checkpoints.list_steps(str(folder)) == [20, 30, 40]


@pytest.mark.parametrize(
    "other", [{"weights": [0.0, 0.0, 0.0]}, {"weights": [0.0, 0.0], "more": [0.0]}, {}], ids=["shape", "more", "less"]
)
def test_restore_raises_user_error_for_state_of_another_version(folder, other):
    state = tf.train.Checkpoint(**{name: tf.Variable(value) for name, value in other.items()})
    with pytest.raises(UserError, match=r"step-00000040 holds another state than this version's"):
        checkpoints.restore(str(folder), state)
    assert checkpoints.list_steps(str(folder)) == [20, 30, 40]


@pytest.mark.parametrize("name", ["step-00000050.tmp", "step-00000050"])
def test_clean_removes_partial_checkpoint_of_killed_run(folder, capsys, name):
    """A local run is killed before the folder is renamed, a run in a store before checkpoint.json is uploaded."""
    partial = folder / name
    partial.mkdir()
    (partial / "state.index").write_bytes(b"half")
    assert restore(folder)[0].step == 40
    checkpoints.clean(str(folder))
    assert not partial.exists()
    assert ("is incomplete and removed" in capsys.readouterr().out) == (name == "step-00000050")
    assert checkpoints.list_steps(str(folder)) == [20, 30, 40]


def test_restore_returns_none_when_the_only_checkpoint_is_partial(tmp_path):
    (tmp_path / "step-00000010").mkdir()
    (tmp_path / "step-00000010" / "state.index").write_bytes(b"half")
    assert restore(tmp_path) == (None, -1.0)


def test_save_raises_user_error_and_keeps_earlier_checkpoints_when_write_fails(folder, monkeypatch):
    def full(*_args, **_keywords):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    state = make_state(50.0)
    monkeypatch.setattr(state, "write", full)
    with pytest.raises(UserError, match=r"No space left on device\. .*earlier checkpoints are complete"):
        checkpoints.save(str(folder), state, CheckpointRecord(50))
    assert restore(folder)[0].step == 40


def test_save_replaces_checkpoint_of_same_step(folder):
    checkpoints.save(str(folder), make_state(41.0), CheckpointRecord(40))
    assert restore(folder)[1] == 41.0
    assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]
