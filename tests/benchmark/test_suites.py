"""Tests of fer/benchmark/suites.py."""

import sys

import pytest

from fer.benchmark import suites
from fer.errors import UserError


def test_choose_suites_leaves_out_detect_without_opencv(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert suites.choose_suites(suites.ALL) == [name for name in suites.SUITES if name != "detect"]
    assert "OpenCV is not installed and the suite detect is not run" in capsys.readouterr().out
    assert suites.choose_suites("train") == ["train"]
    with pytest.raises(UserError, match="The suite detect needs OpenCV: "):
        suites.choose_suites("detect")
