"""Tests of `fer.evaluation.metrics.annotator_agreement`."""

import numpy as np

from fer.evaluation.metrics import annotator_agreement
from fer.labels import FERPLUS_COLUMNS


def votes(**counts) -> np.ndarray:
    """Returns one row of FER+ votes, [10], from the number of votes of each named column."""
    return np.array([counts.get(column, 0) for column in FERPLUS_COLUMNS])


def test_accuracy_by_agreement_groups_examples_by_most_votes():
    rows = np.stack([votes(anger=10), votes(fear=7, sadness=3), votes(fear=7, NF=3), votes(NF=10)])
    groups = annotator_agreement.accuracy_by_agreement(rows, np.array([True, True, False, False]))
    assert groups == [{"votes": 7, "examples": 2, "accuracy": 0.5}, {"votes": 10, "examples": 2, "accuracy": 0.5}]
