"""What the tests of training share."""

import pytest

from tests.train import factories


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    """Fixtures of a module or of the session, whose pictures tests look at, draw them as they are."""
    factories.small_pictures(monkeypatch.setattr)
