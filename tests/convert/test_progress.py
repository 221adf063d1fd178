"""Progress on a terminal and elsewhere."""

import io
import sys

import pytest

from fer.convert import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_there_is_a_plain_line_now_and_then(monkeypatch, capsys, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    shown = progress.Progress("Reading", size=2200)
    for second in range(1, 12):
        clock[0] = second
        shown.consume(110)
        shown.advance(10)
    assert capsys.readouterr().out.splitlines() == [
        "Reading: 50 rows, 10 rows/s, 25%",
        "Reading: 100 rows, 10 rows/s, 50%",
    ]


def test_the_end_is_said_once(monkeypatch, capsys, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    shown = progress.Progress("Reading", size=0)
    clock[0] = 2.0
    shown.advance(10)
    shown.close()
    shown.close()
    assert capsys.readouterr().out == "Reading: 10 rows, 5 rows/s\n"


def drawn(monkeypatch, size: int) -> str:
    """What a terminal shows after 25 bytes and 20 rows of a source of that size."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    shown = progress.Progress("Reading", size)
    shown.consume(25)
    shown.advance(20)
    shown._bar.refresh()
    shown.close()
    return terminal.getvalue()


def test_on_a_terminal_there_is_a_bar_with_the_rate_and_the_rows_to_come(monkeypatch):
    bar = drawn(monkeypatch, size=100)
    assert "Reading:  25%" in bar
    assert "20/80" in bar
    assert "rows/s" in bar


def test_a_bar_of_a_source_whose_size_is_not_known_has_no_end(monkeypatch):
    assert "Reading: 20 rows" in drawn(monkeypatch, size=0)


def test_a_line_is_said_beside_the_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", Terminal())
    shown = progress.Progress("Reading", size=100)
    shown.say("Reading f.csv")
    shown.close()
    assert capsys.readouterr().out.startswith("Reading f.csv\n")
