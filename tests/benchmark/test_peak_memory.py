"""Memory is that of a program and all it begins."""

import subprocess
import sys

import pytest

from fer.benchmark import peak_memory

HOLD = "import time; held = bytearray(60 << 20); held[::4096] = b'x' * len(held[::4096]); time.sleep({})"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD.format(0.5)!r}]); " + HOLD.format(0.2)


def test_what_a_program_holds_is_counted():
    peak = peak_memory.peak_mib([sys.executable, "-c", HOLD.format(0.5)])
    assert 60 < peak < 100


def test_what_its_children_hold_is_counted_too_but_only_what_is_held_at_once():
    one = peak_memory.peak_mib([sys.executable, "-c", PARENT])
    assert 60 < one < 110
    both = "import subprocess, sys; held = bytearray(60 << 20); held[::4096] = b'x' * len(held[::4096]); "
    both += f"subprocess.run([sys.executable, '-c', {HOLD.format(0.5)!r}])"
    assert 120 < peak_memory.peak_mib([sys.executable, "-c", both]) < 170


def test_a_program_that_fails_is_no_measurement():
    with pytest.raises(subprocess.CalledProcessError):
        peak_memory.peak_mib([sys.executable, "-c", "raise SystemExit(3)"])
