"""Fixtures of the tests of training."""

import pytest

from tests.train import factories


@pytest.fixture(autouse=True)
def replace_plots(monkeypatch):
    """Replaces the plots of each test by small images; fixtures of a module or session draw the real ones."""
    factories.replace_plots(monkeypatch.setattr)
