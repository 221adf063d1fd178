"""Parser processes: their results, errors and shutdown."""

import concurrent.futures
import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from fer.convert import parser_process, worker_pool
from fer.convert.readers import csv_reader, image_folder
from fer.convert.worker_pool import ParserPool
from fer.errors import UserError
from tests.convert import input_factories

IMAGES = input_factories.noise(40)


def make_lines(images: np.ndarray) -> csv_reader.Lines:
    [piece] = csv_reader.iter_chunks("f.csv", iter([(input_factories.make_csv(images) + "junk\n").encode()]))
    return piece


PIECES = {
    "lines": make_lines(IMAGES),
    "pictures": image_folder.Pictures(
        tuple(
            image_folder.Picture("n", f"sad/{i}.png", input_factories.encode_image(image))
            for i, image in enumerate(IMAGES)
        )
    ),
}


@pytest.fixture
def parser_pool():
    with contextlib.closing(ParserPool(2, worker_pool.MIN_BYTES)) as made:
        yield made


@pytest.mark.parametrize("kind", PIECES)
def test_parser_pool_parses_as_current_process(kind, parser_pool):
    block, prints = parser_pool.parse(PIECES[kind])
    expected_block, expected_prints = parser_process.parse_chunk(PIECES[kind])
    np.testing.assert_array_equal(block.images, IMAGES)
    assert block.rejects == expected_block.rejects
    np.testing.assert_array_equal(prints.hashes, expected_prints.hashes)
    np.testing.assert_array_equal(prints.squares, expected_prints.squares)


def test_parser_pool_gives_every_thread_its_own_process(parser_pool):
    barrier = threading.Barrier(2, timeout=60)  # neither thread takes two pieces in a row

    def parse(piece: parser_process.Chunk) -> np.ndarray:
        barrier.wait()
        return parser_pool.parse(piece)[0].images

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        images = list(pool.map(parse, [PIECES["lines"]] * 6))
    assert all((found == IMAGES).all() for found in images)
    assert len(parser_pool._workers) == 2


def test_parser_pool_process_survives_interrupt(parser_pool):
    """An interrupt may reach all processes at once; the parent ends them in order."""
    parser_pool.parse(PIECES["lines"])
    assert os.getsid(parser_pool._workers[0].pid) != os.getsid(0)  # a terminal interrupts the parent's session alone
    parser_pool._workers[0].send_signal(signal.SIGINT)
    block, _ = parser_pool.parse(PIECES["lines"])
    np.testing.assert_array_equal(block.images, IMAGES)


def test_parser_pool_starts_no_process_for_little_data_or_one_worker():
    for made in (ParserPool(1, worker_pool.MIN_BYTES), ParserPool(2, worker_pool.MIN_BYTES - 1)):
        made.parse(PIECES["lines"])
        assert made._workers == []


def test_parser_pool_raises_error_when_process_died(parser_pool):
    parser_pool.parse(PIECES["lines"])
    parser_pool._workers[0].kill()
    with pytest.raises(UserError, match=r"A parser process died \(exit code -9\)"):
        parser_pool.parse(PIECES["lines"])


def test_parser_pool_ignores_modules_in_current_folder(tmp_path, monkeypatch):
    for name in ("csv", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    with worker_pool.start_early(2, worker_pool.MIN_BYTES) as parser_pool:
        block, _ = parser_pool.parse(PIECES["lines"])
    np.testing.assert_array_equal(block.images, IMAGES)


def test_parser_pool_inherits_search_of_current_folder_and_reports_exit_code(tmp_path, monkeypatch):
    # The process closes its output first and ends when its input ends.
    (tmp_path / "csv.py").write_text("import os, sys\nos.close(1)\nsys.stdin.buffer.read()\nos._exit(7)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    died = pytest.raises(UserError, match=r"A parser process died \(exit code 7\)")
    with worker_pool.start_early(2, worker_pool.MIN_BYTES) as parser_pool, died:
        parser_pool.parse(PIECES["lines"])


def test_parser_pool_error_names_the_limit_of_processes_and_ends_the_started_ones(monkeypatch):
    started = []
    popen = subprocess.Popen

    def start(*arguments, **keywords) -> subprocess.Popen:
        if started:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(popen(*arguments, **keywords))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(UserError, match=r"Parser process 2 cannot be started \(Resource .*\): .* fewer --workers\."):
        ParserPool(2, worker_pool.MIN_BYTES)
    assert started[0].poll() is not None


def test_start_early_yields_no_pool_for_little_data():
    with worker_pool.start_early(2, worker_pool.MIN_BYTES - 1) as parser_pool:
        assert parser_pool is None


def test_parser_pool_processes_end_when_closed(parser_pool):
    parser_pool.parse(PIECES["lines"])
    parser_pool.close()
    assert [member.poll() is not None for member in parser_pool._workers] == [True, True]


def test_parser_pool_processes_end_when_parent_is_killed():
    program = """
import os, time
from fer.convert import worker_pool
made = worker_pool.ParserPool(2, worker_pool.MIN_BYTES)
print(made._workers[0].pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    member = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(200):
        if not is_running(member):
            break
        time.sleep(0.05)
    assert not is_running(member)


def is_running(process: int) -> bool:
    """Returns whether a process runs. A zombie does not."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("module", "heavy"), [("worker_pool", "numpy"), ("convert", "tensorflow")])
def test_modules_of_conversion_do_not_import_heavy_ones(module, heavy):
    program = f"import sys, fer.convert.{module}; print('{heavy}' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
