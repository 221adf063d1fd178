"""Tests of fer/benchmark/peak_memory.py."""

import subprocess
import sys

import pytest

from fer.benchmark import peak_memory

HOLD = "import time; held = bytearray(60 << 20); held[::4096] = b'x' * len(held[::4096]); time.sleep({})"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD.format(0.5)!r}]); " + HOLD.format(0.2)


def test_peak_mib_measures_memory_of_a_program():
    peak = peak_memory.peak_mib([sys.executable, "-c", HOLD.format(0.5)])
    assert 60 < peak < 100


def test_peak_mib_includes_simultaneous_memory_of_children():
    one = peak_memory.peak_mib([sys.executable, "-c", PARENT])
    assert 60 < one < 110
    both = "import subprocess, sys; held = bytearray(60 << 20); held[::4096] = b'x' * len(held[::4096]); "
    both += f"subprocess.run([sys.executable, '-c', {HOLD.format(0.5)!r}])"
    assert 120 < peak_memory.peak_mib([sys.executable, "-c", both]) < 170


def test_peak_mib_raises_when_the_program_fails():
    with pytest.raises(subprocess.CalledProcessError):
        peak_memory.peak_mib([sys.executable, "-c", "raise SystemExit(3)"])
