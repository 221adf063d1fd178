"""Tests of fer/benchmark/process_usage.py."""

import os
import sys

import pytest

from fer.benchmark import process_usage
from fer.errors import UserError

HOLD = "import time; held = bytearray(60 << 20); held[::4096] = b'x' * len(held[::4096]); time.sleep({})"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD.format(0.5)!r}]); " + HOLD.format(0.2)


def test_run_measures_memory_of_a_program():
    peak = process_usage.run([sys.executable, "-c", HOLD.format(0.5)]).peak_mib
    assert 60 < peak < 100


def test_run_includes_simultaneous_memory_of_children():
    one = process_usage.run([sys.executable, "-c", PARENT]).peak_mib
    assert 60 < one < 110
    both = "import subprocess, sys; held = bytearray(60 << 20); held[::4096] = b'x' * len(held[::4096]); "
    both += f"subprocess.run([sys.executable, '-c', {HOLD.format(0.5)!r}])"
    assert 120 < process_usage.run([sys.executable, "-c", both]).peak_mib < 170


BUSY = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass"


def test_run_measures_wall_and_cpu_time_with_children():
    idle = process_usage.run([sys.executable, "-c", "import time; time.sleep(0.6)"])
    assert idle.seconds > 0.6
    assert idle.cpu_seconds < 0.6
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY.format(0.6)!r}])"
    assert process_usage.run([sys.executable, "-c", child]).cpu_seconds > 0.6


def test_run_passes_environment():
    command = [sys.executable, "-c", "import os; assert os.environ['OWN'] == 'yes'"]
    process_usage.run(command, {**os.environ, "OWN": "yes"})


def test_run_error_names_program_and_its_last_message():
    command = [sys.executable, "-c", "print('first', flush=True); raise SystemExit('no more faces')"]
    with pytest.raises(UserError, match=r"python.* failed with exit code 1: no more faces$"):
        process_usage.run(command)
    with pytest.raises(UserError, match=r"failed with exit code 3: it printed no message$"):
        process_usage.run([sys.executable, "-c", "raise SystemExit(3)"])
