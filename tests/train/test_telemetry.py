"""What a person sees."""

import numpy as np
import tensorflow as tf

from fer.train import telemetry
from fer.train.validation import Score

ENTRY = {
    "epoch": 2,
    "step": 20,
    "learning_rate": 0.1,
    "train_loss": 1.25,
    "train_accuracy": 0.5,
    "validation_loss": 1.5,
    "validation_accuracy": 0.625,
    "validation_macro_f1": 0.5,
    "images_per_second": 321.0,
    "input_wait_share": 0.0125,
    "seconds": 9.0,
}


def test_a_sheet_lays_images_out_in_rows_and_fills_up_with_black():
    images = np.stack([np.full((2, 3, 1), value, np.uint8) for value in range(1, 6)])
    sheet = telemetry.sheet(tf.constant(images), columns=4).numpy()[..., 0]
    expected = np.kron([[1, 2, 3, 4], [5, 0, 0, 0]], np.ones((2, 3), int))
    np.testing.assert_array_equal(sheet, expected)


def test_tensorboard_gets_figures_the_config_faces_and_the_confusion_matrix(tmp_path):
    events = telemetry.Events(str(tmp_path))
    events.config("{}")
    events.step(
        10, {"epoch_loss_so_far": 1.0, "learning_rate": 0.1, "images_per_second": 100.0, "input_wait_share": 0.25}
    )
    events.augmented(tf.zeros([8, 48, 48, 1], tf.uint8), 0)
    events.epoch(ENTRY, Score(1.5, np.eye(7, dtype=np.int64)))
    events.close()
    (file,) = tmp_path.iterdir()
    tags = {
        (value.tag, event.step): tf.make_ndarray(value.tensor)
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    assert tags[("epoch/validation_accuracy", 20)] == np.float32(0.625)
    assert tags[("train/learning_rate", 10)] == np.float32(0.1)
    assert tags[("train/input_wait_share", 10)] == np.float32(0.25)
    assert tags[("epoch/input_wait_share", 20)] == np.float32(0.0125)
    assert ("config", 0) in tags
    sheet = tf.io.decode_png(tags[("augmented", 0)][2])
    assert sheet.shape == (48, 8 * 48, 1)
    matrix = tf.io.decode_png(tags[("confusion_matrix", 20)][2])
    assert min(matrix.shape[:2]) > 300


def test_without_a_terminal_an_epoch_is_one_plain_line(capsys):
    progress = telemetry.Progress(total_steps=100, done=0, global_batch=16)
    progress.steps(10, 1.2, 0.4, 0.0)
    progress.epoch(ENTRY, best=True)
    progress.close()
    out, err = capsys.readouterr()
    assert out.startswith("epoch 2: train loss 1.250, validation loss 1.500, accuracy 0.6250, macro F1 0.5000, ")
    assert out.endswith("321 images/s, 1.2% waiting for input (best so far)\n")
    assert err == ""
