"""Checks class weights against their formulas, computed independently."""

import numpy as np
import pytest

from fer.config import Data
from fer.labels import CLASSES
from fer.train.optim.class_weights import compute_class_weights

COUNTS = dict(zip(CLASSES, [3995, 436, 4097, 7215, 4830, 3171, 4965]))
EXAMPLES = np.array(list(COUNTS.values()))


def test_class_weights_inverse_matches_scikit_learn_balanced():
    expected = EXAMPLES.sum() / (7 * EXAMPLES)
    np.testing.assert_allclose(compute_class_weights(COUNTS, Data(class_weights="inverse")), expected, rtol=1e-6)


def test_class_weights_effective_follows_formula_of_paper():
    found = compute_class_weights(COUNTS, Data(class_weights="effective", class_balanced_beta=0.999))
    # Cui et al. 2019, arXiv:1901.05555, equation 1, as a sum.
    expected = 1 / np.array([sum(0.999**power for power in range(count)) for count in EXAMPLES])
    np.testing.assert_allclose(found / found[0], expected / expected[0], rtol=1e-5)


@pytest.mark.parametrize(("beta", "equivalent"), [(0.0, "none"), (1 - 1e-9, "inverse")])
def test_effective_beta_interpolates_from_equal_to_inverse_weights(beta, equivalent):
    found = compute_class_weights(COUNTS, Data(class_weights="effective", class_balanced_beta=beta))
    np.testing.assert_allclose(found, compute_class_weights(COUNTS, Data(class_weights=equivalent)), rtol=1e-4)


@pytest.mark.parametrize("kind", ["none", "inverse", "effective"])
def test_class_weights_average_one_over_the_examples(kind):
    assert compute_class_weights(COUNTS, Data(class_weights=kind)) @ EXAMPLES == pytest.approx(EXAMPLES.sum(), rel=1e-5)


def test_class_weights_are_zero_for_class_without_examples():
    found = compute_class_weights({**COUNTS, "disgust": 0}, Data(class_weights="inverse"))
    assert found[CLASSES.index("disgust")] == 0
    assert np.isfinite(found).all()
