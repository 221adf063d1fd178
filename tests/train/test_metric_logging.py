"""Checks the TensorBoard event files of a training run."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.plugins.hparams import backend_context, plugin_data_pb2

from fer.config import Experiment
from fer.errors import UserError
from fer.labels import CLASSES
from fer.train import metric_logging
from fer.train.eval_step import Mistakes, Score

ENTRY = {
    "epoch": 2,
    "step": 20,
    "learning_rate": 0.1,
    "train_loss": 1.25,
    "train_accuracy": 0.5,
    "validation_loss": 1.5,
    "validation_accuracy": 0.625,
    "validation_macro_f1": 0.5,
    "validation_cohen_kappa": 0.5,
    "validation_matthews": 0.525,
    "images_per_second": 321.0,
    "input_wait_share": 0.0125,
    "seconds": 9.0,
}


def test_tile_images_places_images_in_rows_and_pads_with_black():
    images = np.stack([np.full((2, 3, 1), value, np.uint8) for value in range(1, 6)])
    sheet = metric_logging.tile_images(tf.constant(images), columns=4).numpy()[..., 0]
    expected = np.kron([[1, 2, 3, 4], [5, 0, 0, 0]], np.ones((2, 3), int))
    np.testing.assert_array_equal(sheet, expected)


def read_events(folder) -> dict:
    """Returns the values of the event files in a folder, by path of the tag below it, and step."""
    return {
        ((file.parent.relative_to(folder) / value.tag).as_posix(), event.step): value
        for file in folder.rglob("*.tfevents.*")
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }


def decode_image(value) -> np.ndarray:
    return tf.io.decode_png(tf.make_ndarray(value.tensor)[2]).numpy()


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    """Writes the events of a run with four mistakes and reads them back."""
    folder = tmp_path_factory.mktemp("events")
    events = metric_logging.EventWriter(str(folder), CLASSES)
    events.write_config(Experiment(seed=7))
    events.write_step(
        10, {"gradient_norm": 3.5, "learning_rate": 0.1, "images_per_second": 100.0, "input_wait_share": 0.25}
    )
    events.write_augmented_images(tf.fill([8, 48, 48, 1], tf.constant(77, tf.uint8)), 0)
    confusion = np.eye(7, dtype=np.int64) * 10
    confusion[0, 6] = 4
    probabilities = np.tile(np.float32([[0.1, 0, 0, 0, 0, 0, 0.9]]), (4, 1))
    faces = np.full((4, 48, 48, 1), 200, np.uint8)
    events.write_epoch(
        ENTRY, Score(1.5, confusion, Mistakes(probabilities[:, 6], faces, np.zeros(4, np.int32), probabilities))
    )
    events.write_epoch({**ENTRY, "step": 30, "validation_cohen_kappa": None}, Score(1.5, confusion))
    events.close()
    return read_events(folder)


@pytest.mark.parametrize(
    ("tag", "step", "value"),
    [
        ("train/epoch/loss", 20, 1.25),
        ("validation/epoch/loss", 20, 1.5),  # the same tag, and so the same chart
        ("train/epoch/accuracy", 20, 0.5),
        ("validation/epoch/accuracy", 20, 0.625),
        ("validation/epoch/cohen_kappa", 20, 0.5),
        ("validation/epoch/matthews", 20, 0.525),
        ("validation/recall/angry", 20, 10 / 14),
        ("validation/recall/neutral", 20, 1.0),
        ("train/epoch/input_wait_share", 20, 0.0125),
        ("train/step/learning_rate", 10, 0.1),
        ("train/step/gradient_norm", 10, 3.5),
        ("train/step/input_wait_share", 10, 0.25),
        ("train/step/images_per_second", 10, 100.0),
    ],
)
def test_tensorboard_events_hold_the_metrics(found, tag, step, value):
    assert tf.make_ndarray(found[tag, step].tensor) == np.float32(value)


def test_metric_without_value_is_omitted(found):
    assert ("validation/epoch/cohen_kappa", 30) not in found
    assert ("validation/epoch/matthews", 30) in found


def test_tensorboard_events_hold_config_as_text_and_hyperparameters(found):
    text = tf.make_ndarray(found["config", 0].tensor).item().decode()
    assert json.loads(text.strip("`\n")) == Experiment(seed=7).to_dict()
    content = found["_hparams_/session_start_info", 0].metadata.plugin_data.content
    values = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["5 seed"].string_value == "7"  # the page would show the number as 7.0000
    assert values["train.epochs"].string_value == str(Experiment().train.epochs)
    assert values["2 optimizer.learning_rate"].number_value == Experiment().optimizer.learning_rate
    assert values["4 augment.policy"].string_value == Experiment().augment.policy
    content = found["_hparams_/experiment", 0].metadata.plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    assert {info.name for info in experiment.hparam_infos} == set(values)
    tags = {tag for tag, _ in found}
    # Each metric is among the events.
    assert {f"{info.name.group}/{info.name.tag}" for info in experiment.metric_infos} <= tags
    assert len(experiment.metric_infos) == 3


def test_hparams_page_lists_model_learning_rate_batch_policy_and_seed_first(found):
    content = found["_hparams_/experiment", 0].metadata.plugin_data.content
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    backend_context._sort_and_reduce_to_hparams_limit(experiment)  # as the page does
    assert [info.display_name for info in experiment.hparam_infos][:6] == [
        "model.name",
        "optimizer.learning_rate",
        "train.global_batch_size",
        "augment.policy",
        "seed",
        "augment.backend",
    ]


def test_tensorboard_events_hold_faces_confusion_matrix_and_mistakes(found):
    sheet = decode_image(found["augmented", 0])
    assert sheet.shape == (48, 8 * 48, 1)
    assert (sheet == 77).all()
    matrix, mistakes = (
        decode_image(found["validation/confusion_matrix", 20]),
        decode_image(found["validation/mistakes", 20]),
    )
    assert min(matrix.shape[:2]) > 300
    grey = (mistakes == 200).all(axis=-1).sum()  # four faces of a row of eight
    assert 0.2 < grey / mistakes[..., 0].size < 0.4
    assert ("validation/mistakes", 30) not in found


@pytest.mark.parametrize(("of_one_worker", "end"), [(True, ", faces of one worker"), (False, "")])
def test_write_epoch_title_names_mistakes_of_one_worker(tmp_path, monkeypatch, of_one_worker, end):
    titles, draw = [], metric_logging.plots.mistakes
    monkeypatch.setattr(metric_logging.plots, "mistakes", lambda *parts: titles.append(parts[4]) or draw(*parts))
    mistakes = Mistakes(np.ones(1), np.zeros((1, 48, 48, 1), np.uint8), np.zeros(1, np.int32), np.eye(7)[[6]])
    events = metric_logging.EventWriter(str(tmp_path), CLASSES)
    events.write_epoch(ENTRY, Score(1.5, np.ones((7, 7), np.int64), mistakes, of_one_worker))
    assert titles == [f"validation, epoch {ENTRY['epoch']}{end}"]


def test_event_writer_raises_user_error_when_folder_is_not_writable(tmp_path):
    (tmp_path / "events").write_text("in the way")
    with pytest.raises(UserError, match=r"Cannot write TensorBoard's events in .*the checkpoints so far are complete"):
        metric_logging.EventWriter(str(tmp_path / "events"), CLASSES)
