"""What a face is to be taken for, by hand."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fer.data.batches import Batch
from fer.errors import UserError
from fer.train import loop, step, targets
from tests.train import made

LABELS = tf.constant([0, 6, 3, 2])
VOTES = tf.constant(
    [  # neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, no face
        [1, 0, 0, 2, 5, 1, 1, 0, 0, 0],
        [4, 0, 0, 0, 0, 0, 0, 5, 1, 0],
        [0, 10, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 2, 8],
    ]
)
SHARES = np.array(
    [  # angry, disgust, fear, happy, sad, surprise, neutral
        [0.5, 0.1, 0.1, 0, 0.2, 0, 0.1],
        [0, 0, 0, 0, 0, 0, 1],  # contempt does not count
        [0, 0, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 0],  # nobody chose one of the seven: the label stays
    ]
)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("fer", np.eye(7)[LABELS]), ("ferplus", SHARES), ("mixture", (np.eye(7)[LABELS] + SHARES) / 2)],
)
def test_targets_are_what_the_config_names(kind, expected):
    np.testing.assert_allclose(targets.soft(LABELS, VOTES, kind), expected, atol=1e-7)


def test_a_step_is_given_them():
    settings = made.experiment(targets="ferplus", global_batch=4)
    settings.augment.policy = "none"
    batch = Batch(tf.zeros([4, 48, 48, 1], tf.uint8), LABELS, tf.range(4), VOTES)
    inputs = step.augmented(batch, tf.constant([0, 0]), settings, mix=True)
    np.testing.assert_allclose(inputs.targets, SHARES, atol=1e-7)


def test_shards_without_votes_are_a_sentence(synthetic_shards, tmp_path):
    settings = made.experiment(targets="mixture")
    with pytest.raises(UserError, match=r"targets is 'mixture', but the shards in .* hold no votes of FER\+"):
        loop.train(settings, synthetic_shards.folder, str(tmp_path / "run"), "one")
    assert not (tmp_path / "run").exists()


def test_shards_with_votes_pass(synthetic_shards):
    options = {**synthetic_shards.raw["options"], "ferplus": "fer2013new.csv"}
    targets.check(dataclasses.replace(synthetic_shards, raw={**synthetic_shards.raw, "options": options}), "ferplus")
