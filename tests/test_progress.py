"""Progress displays on a terminal and elsewhere."""

import io
import re
import subprocess
import sys
import time

import pytest

from fer import progress

EPOCH = {
    "epoch": 2,
    "step": 20,
    "train_loss": 1.25,
    "validation_loss": 1.5,
    "validation_accuracy": 0.625,
    "validation_macro_f1": 0.5,
    "images_per_second": 321.0,
    "input_wait_share": 0.0125,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch) -> Terminal:
    """Makes the standard error a terminal; pytest replaces what a fixture sets."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("after_s", "out"), [(0.0, "Working ...\n"), (60.0, "")])
def test_print_when_slow_prints_only_when_work_is_slow(after_s, out, capsys):
    with progress.print_when_slow("Working ...", after_s):
        for _ in range(1000):
            if after_s or capsys.readouterr().out == out:
                break
            time.sleep(0.01)
        else:
            pytest.fail("nothing was printed")
    assert not after_s or capsys.readouterr().out == out


def test_progress_imports_no_tqdm():
    program = "import sys, fer.progress; sys.exit('tqdm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_progress_display_prints_lines_when_stderr_is_closed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)  # as Python sets it under 2>&-
    with progress.ReadProgress("Reading", size=0) as display:
        display.add_rows(10)
        display.print_line("Reading f.csv")
    assert re.fullmatch(r"Reading f\.csv\nReading: 10 rows, [\d,]+ rows/s\n", capsys.readouterr().out)


def test_read_progress_prints_a_line_every_5_seconds_without_a_terminal(capsys, clock):
    display = progress.ReadProgress("Reading", size=2200)
    for second in range(1, 12):
        clock[0] = second
        display.add_bytes(110)
        display.add_rows(10)
    assert capsys.readouterr().out.splitlines() == [
        "Reading: 50 rows, 10 rows/s, 25%",
        "Reading: 100 rows, 10 rows/s, 50%",
    ]


def test_read_progress_prints_the_rate_once_when_closed_twice(capsys, clock):
    display = progress.ReadProgress("Reading", size=0)
    clock[0] = 2.0
    display.add_rows(10)
    display.close()
    display.close()
    assert capsys.readouterr().out == "Reading: 10 rows, 5 rows/s\n"


def read_on_terminal(monkeypatch, size: int) -> str:
    """Returns the output on a terminal after 25 of `size` bytes, 20 rows, are read."""
    terminal = open_terminal(monkeypatch)
    display = progress.ReadProgress("Reading", size)
    display.add_bytes(25)
    display.add_rows(20)
    display._bar.refresh()
    display.close()
    return terminal.getvalue()


def test_read_progress_shows_rate_and_extrapolated_rows_on_a_terminal(monkeypatch):
    bar = read_on_terminal(monkeypatch, size=100)
    assert "Reading:  25%" in bar
    assert "20/80" in bar
    assert "rows/s" in bar


def test_read_progress_shows_no_total_when_size_is_unknown(monkeypatch):
    assert "Reading: 20 rows" in read_on_terminal(monkeypatch, size=0)


def test_progress_display_prints_a_line_beside_the_bar(monkeypatch, capsys):
    open_terminal(monkeypatch)
    display = progress.ReadProgress("Reading", size=100)
    display.print_line("Reading f.csv")
    display.close()
    assert capsys.readouterr().out.startswith("Reading f.csv\n")


def test_image_progress_prints_a_line_every_30_seconds_without_a_terminal(capsys, clock):
    with progress.ImageProgress("evaluating") as display:
        for second in range(0, 70, 10):
            clock[0] = second
            display.update(1000, 7000)
    assert capsys.readouterr().out.splitlines() == [
        "evaluating: 4,000 of 7,000 images",
        "evaluating: 7,000 of 7,000 images",
    ]


def test_image_progress_shows_count_and_total_on_a_terminal(monkeypatch):
    terminal = open_terminal(monkeypatch)
    with progress.ImageProgress("evaluating") as display:
        display.update(30, 120)
        display._bar.refresh()
    assert "evaluating:  25%" in terminal.getvalue()
    assert "30/120" in terminal.getvalue()


def test_train_progress_shows_metrics_rate_and_time_left_on_a_terminal(monkeypatch):
    terminal = open_terminal(monkeypatch)
    display = progress.TrainProgress(total_steps=400, step=100, global_batch=16, epoch_steps=100)
    time.sleep(0.2)
    display.update(120, 1.234, 0.456, 0.05)
    display.close()
    last = terminal.getvalue().split("\r")[-1]
    assert re.search(
        r"epoch 2 of 4:\s+30%\|.*\| [\d.]+ images/s, \d\d:\d\d left, loss 1\.234, accuracy 0\.456, 5\.0% waiting", last
    )


def test_train_progress_prints_a_line_every_60_seconds_without_a_terminal(capsys, clock):
    display = progress.TrainProgress(total_steps=400, step=100, global_batch=16, epoch_steps=100)
    for clock[0], step in ((30, 110), (60, 130), (90, 140)):
        display.update(step, 1.234, 0.456, 0.05)
    display.roll_back(100)
    clock[0] = 120
    display.update(115, 1.0, 0.5, 0.0)
    assert capsys.readouterr().out.splitlines() == [
        "step 130 of 400: loss 1.234, accuracy 0.456, 8 images/s, 5.0% waiting for input, 9 min left",
        "step 115 of 400: loss 1.000, accuracy 0.500, 4 images/s, 0.0% waiting for input, 19 min left",
    ]


def test_train_progress_prints_one_line_an_epoch_without_a_terminal(capsys):
    display = progress.TrainProgress(total_steps=100, step=0, global_batch=16, epoch_steps=10)
    display.update(10, 1.2, 0.4, 0.0)
    display.end_epoch(EPOCH, best=True)
    display.close()
    out, err = capsys.readouterr()
    assert out.startswith("epoch 2: train loss 1.250, validation loss 1.500, accuracy 0.6250, macro F1 0.5000, ")
    assert out.endswith("321 images/s, 1.2% waiting for input (best so far)\n")
    assert err == ""
