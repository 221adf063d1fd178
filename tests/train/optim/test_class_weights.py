"""Class weights against their formulas, by hand."""

import numpy as np
import pytest

from fer.config import Data
from fer.labels import CLASSES
from fer.train.optim.class_weights import compute_class_weights

COUNTS = dict(zip(CLASSES, [3995, 436, 4097, 7215, 4830, 3171, 4965]))
EXAMPLES = np.array(list(COUNTS.values()))


def test_inverse_weights_are_those_of_scikit_learns_balanced():
    expected = EXAMPLES.sum() / (7 * EXAMPLES)
    np.testing.assert_allclose(compute_class_weights(COUNTS, Data(class_weights="inverse")), expected, rtol=1e-6)


def test_effective_weights_stand_to_each_other_as_in_the_paper():
    found = compute_class_weights(COUNTS, Data(class_weights="effective", effective_beta=0.999))
    papers = 1 / np.array([sum(0.999**power for power in range(count)) for count in EXAMPLES])  # its equation 1
    np.testing.assert_allclose(found / found[0], papers / papers[0], rtol=1e-5)


@pytest.mark.parametrize(("beta", "like"), [(0.0, "none"), (1 - 1e-9, "inverse")])
def test_beta_leads_from_equal_weights_to_inverse_frequency(beta, like):
    found = compute_class_weights(COUNTS, Data(class_weights="effective", effective_beta=beta))
    np.testing.assert_allclose(found, compute_class_weights(COUNTS, Data(class_weights=like)), rtol=1e-4)


@pytest.mark.parametrize("kind", ["none", "inverse", "effective"])
def test_their_mean_over_the_examples_is_one(kind):
    assert compute_class_weights(COUNTS, Data(class_weights=kind)) @ EXAMPLES == pytest.approx(EXAMPLES.sum(), rel=1e-5)


def test_a_class_without_examples_has_no_say():
    found = compute_class_weights({**COUNTS, "disgust": 0}, Data(class_weights="inverse"))
    assert found[CLASSES.index("disgust")] == 0
    assert np.isfinite(found).all()
