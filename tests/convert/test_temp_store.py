"""Faces set down on disk and taken up again."""

import os

import numpy as np
import pytest

from fer.convert.temp_store import TempStore
from fer.errors import UserError
from tests.convert import input_factories

IMAGES = input_factories.noise(50)


@pytest.fixture
def spool(tmp_path) -> TempStore:
    spool = TempStore(str(tmp_path))
    for start in range(0, 50, 7):
        spool.append(IMAGES[start : start + 7])
    spool.finish()
    yield spool
    spool.close()


@pytest.mark.parametrize("positions", [[], [0], [49], [0, 1, 2], [3, 5, 6, 7, 20, 49], range(50)])
def test_the_faces_asked_for_come_back(spool, positions):
    np.testing.assert_array_equal(spool.read(np.array(positions, np.int64)), IMAGES[list(positions)])


def test_it_has_no_name_that_could_be_left_behind(spool, tmp_path):
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    with pytest.raises(UserError, match=r"Cannot write into .*nowhere"):
        TempStore(str(tmp_path / "nowhere"))
