"""Checks the traces of the chosen steps."""

import shlex

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from fer.train.profiler import Profiler


def list_traces(folder) -> list:
    return list((folder / "plugins" / "profile").rglob("*.xplane.pb"))


def test_profiler_traces_only_the_chosen_steps(tmp_path, capsys):
    folder = tmp_path / "it's my run"
    profiler, step = Profiler(str(folder), "2-3"), tf.Variable(0, dtype=tf.int64)
    for done in range(5):
        assert bool(list_traces(folder)) == (done >= 3)
        profiler.start_before(done)
        tf.raw_ops.Cholesky(input=tf.eye(4) * 2) if done in (1, 2) else tf.raw_ops.MatrixInverse(input=tf.eye(4))
        step.assign_add(1)
        profiler.stop_after(done + 1, step)
    (file,) = list_traces(folder)
    space = xplane_pb2.XSpace.FromString(file.read_bytes())
    events = [data.name for plane in space.planes for data in plane.event_metadata.values()]
    assert [name for name in events if "Cholesky" in name]
    assert not [name for name in events if "MatrixInverse" in name]
    command = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(command)[-2:] == ["tensorboard.main", f"--logdir={folder}"]


def test_profiler_boundaries_are_start_and_end_of_trace(tmp_path):
    assert Profiler(str(tmp_path), "10-12").boundaries == (9, 12)


def test_profiler_close_ends_unfinished_trace_and_names_its_last_step(tmp_path, capsys):
    profiler = Profiler(str(tmp_path), "1-100")
    profiler.start_before(0)
    profiler.stop_after(7, tf.Variable(7))
    profiler.close()
    profiler.close()
    assert len(list_traces(tmp_path)) == 1
    assert "The steps up to 7 are traced." in capsys.readouterr().out


def test_profiler_traces_nothing_without_profile_steps(tmp_path):
    profiler = Profiler(str(tmp_path), "")
    profiler.start_before(0)
    profiler.stop_after(0, tf.Variable(0))
    profiler.close()
    assert not list(tmp_path.iterdir())


def test_profiler_starts_no_second_trace_after_rollback(tmp_path):
    profiler = Profiler(str(tmp_path), "5-30")
    profiler.start_before(4)
    profiler.start_before(5)
    profiler.start_before(4)  # after a rollback
    profiler.close()
    assert len(list_traces(tmp_path)) == 1
