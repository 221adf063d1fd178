"""Foreign text is harmless in a terminal, a spreadsheet and Markdown."""

import csv
import html
import json
import re
import shlex
import sys

import numpy as np
import pytest

from fer import cli, escaping, streams
from fer.compare import comparison_report
from fer.convert import rejected_rows
from fer.convert.readers import archives
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.readers.label_map import LabelMap
from fer.convert.rows import Reject
from fer.errors import UserError, command_line
from fer.evaluation import prediction_files
from fer.io import files
from fer.labels import CLASSES
from fer.sweep import report
from tests.convert import input_factories

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\n=1", "\uff1d1", "-a.png", '=HYPERLINK("x"&A1)']
HARMLESS = ["a.png", "0", "17", "a=b", "angry/1-2.png", "ü", "", "a'b", "3,1 2 3"]
CONTROL = "a\x1b[2Jb\x07\x9bc\u202ed"
MARKED = [
    '<img src=x onerror="alert(1)">',
    "[a](javascript:x)",
    "![a](http://x)",
    "`a`",
    "*a*",
    "_a_",
    "a | b",
    "~~a~~",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_escape_cell_is_no_formula(text):
    assert escaping.escape_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", HARMLESS)
def test_escape_cell_leaves_other_texts(text):
    assert escaping.escape_cell(text) == text


def test_escape_cell_can_be_read_back():
    assert escaping.escape_cell("'=1") == "''=1"
    assert len({escaping.escape_cell(text) for text in ("=1", "'=1", "''=1")}) == 3


def test_escape_cell_writes_control_characters_out():
    assert escaping.escape_cell("a\x1b[2J\x00\x7f\x9b\n\t\rb") == "a\\x1b[2J\\x00\\x7f\\x9b\n\t\\rb"
    assert escaping.escape_cell("\x1b=1") == "\\x1b=1"


def test_predictions_hold_no_formula_and_numbers_stay_numbers(tmp_path):
    path = tmp_path / "predictions.csv"
    names = [*FORMULAS, *HARMLESS]
    shares = np.random.default_rng(0).dirichlet(np.ones(7), len(names)).astype(np.float32)
    prediction_files.write_csv(str(path), names, shares, CLASSES, [(0, 1, 2, 3)] * len(names))
    with path.open(newline="", encoding="utf-8") as file:
        _, *lines = csv.reader(file)
    assert [line[0] for line in lines] == [*(f"'{text}" for text in FORMULAS), *HARMLESS]
    assert all(float(value) >= 0 for line in lines for value in [line[1], *line[3:]])


def test_rejects_hold_no_formula(tmp_path):
    rejects = rejected_rows.RejectedRows(str(tmp_path))
    rejects.add([Reject(text, 7, text, "bad label", text, text.encode()) for text in [*FORMULAS, "'a"]])
    rejects.close()
    with open(tmp_path / "rejects.csv", encoding="utf-8", newline="") as file:
        _, *lines = csv.reader(file)
    assert lines == [[f"'{text}", "7", f"'{text}", f"'{text}", f"'{text}"] for text in [*FORMULAS, "'a"]]


def unescape(markdown: str) -> str:
    """Returns the displayed text of Markdown, and checks that it contains no markup."""
    assert not re.search(r"(?<!\\)[`*|\[\]~]|<|>", markdown), markdown
    return html.unescape(re.sub(r"\\([\\`*\[\]|~$_])", r"\1", markdown))


@pytest.mark.parametrize("text", [*MARKED, "a_b", "a & b", "&lt;", "\\`a`", "x\\", "$a$"])
def test_escape_markdown_shows_text_unchanged(text):
    assert unescape(escaping.escape_markdown(text)) == text


def test_escape_markdown_stays_on_its_line():
    assert escaping.escape_markdown("a\n# b\r\x1b") == "a\\\\n# b\\\\r\\\\x1b"


def replace_texts(value, text: str):
    """Returns a copy of a JSON value with every string, except keys, replaced by `text`."""
    if isinstance(value, dict):
        return {name: replace_texts(entry, text) for name, entry in value.items()}
    if isinstance(value, list):
        return [replace_texts(entry, text) for entry in value]
    return text if isinstance(value, str) else value


@pytest.mark.parametrize("text", MARKED)
def test_comparison_shows_names_of_evaluations_unchanged(text, root):
    found = json.loads((root / "docs" / "results" / "comparison" / "comparison.json").read_text())
    found = replace_texts({**found, "published": found["published"][:1]}, text)
    lines = comparison_report.build_markdown(found).splitlines()
    (row,) = [line for line in lines if line.startswith("| **")][:1]
    assert unescape(row.split(" | ")[0].removeprefix("| **").removesuffix("**")) == text
    assert len(re.findall(r"(?<!\\)\|", row)) == len(comparison_report.HEADER) + 1
    first, second, *_, result = lines[-1].removeprefix("| ").removesuffix(" |").split(" | ")
    assert (unescape(first), unescape(second)) == (text, text)
    assert unescape(result) in (f"not compared: {text}", f"{text} is better", "no significant difference")
    assert len(re.findall(r"(?<!\\)\|", lines[-1])) == len(comparison_report.PAIR_HEADER) + 1
    assert "<img src=x" not in "\n".join(lines) + comparison_report.build_page(found, b"")


def test_sweep_shows_failures_unchanged():
    head, _, row = report._markdown_table(["failure"], [[MARKED[0]]])
    assert unescape(row.removeprefix("| ").removesuffix(" |")) == MARKED[0]
    assert head == "| failure |"


SECRETS = {
    "postgresql://user:secret@10.0.0.5/sweep": "postgresql://user:***@10.0.0.5/sweep",
    "postgresql://user:se@cret@host/db": "postgresql://user:***@host/db",
    "postgresql://user:se/c?r#et@host/db": "postgresql://user:***@host/db",
    "postgresql://:secret@host/db": "postgresql://:***@host/db",
    "postgresql://host/db?user=a&password=sec@ret": "postgresql://host/db?user=***&password=***",
    "postgresql://user:secret@host/db?sslpassword=secret": "postgresql://user:***@host/db?sslpassword=***",
    "mysql+pymysql://user:secret@host/db?charset=utf8": "mysql+pymysql://user:***@host/db?charset=***",
    "https://host/x?secret": "https://host/x?***",
    "cannot open postgresql://user:secret@host/db (no route)": "cannot open postgresql://user:***@host/db (no route)",
    "FATAL: password = secret for user": "FATAL: password = *** for user",
    "sqlite:////tmp/a@b/sweep.db": "sqlite:////tmp/a@b/sweep.db",
    "s3://bucket/a?b=1": "s3://bucket/a?b=1",
    "no URL: a@b.c": "no URL: a@b.c",
}


@pytest.mark.parametrize("text", SECRETS)
def test_redact_hides_passwords_and_queries_of_urls(text):
    assert escaping.redact(text) == SECRETS[text]


def test_program_shows_an_error_without_password_and_control_characters(capsys):
    with pytest.raises(SystemExit):
        cli._exit_with_error(UserError(f"There is no https://user:secret@host/{CONTROL}: check the name."))
    assert capsys.readouterr().err.endswith(
        ": There is no https://user:***@host/a\\x1b[2Jb\\x07\\x9bc\\u202ed: check the name.\n"
    )


def test_streams_write_control_characters_out(tmp_path, monkeypatch):
    path = tmp_path / "output"
    with path.open("wb") as file:
        stream = streams._make_stream(None, file.fileno())
        print(f"{CONTROL}\tü", file=stream, flush=True)
        monkeypatch.setattr(sys, "stdout", stream)  # the test must not close it
    assert path.read_text() == "a\\x1b[2Jb\\x07\\x9bc\\u202ed\tü\n"


def test_names_of_files_in_messages_stay_on_their_line(tmp_path):
    input_factories.write_file(tmp_path / "faces" / "a\nb\x1b.csv", "pixels\n")
    (member,) = archives.iter_members(str(tmp_path / "faces"), HashingReader())
    assert (member.name, member.path) == ("faces/a\\nb\\x1b.csv", "a\nb\x1b.csv")


@pytest.mark.parametrize("value", ["a b", "a;rm -rf ~", "$(touch x)", "a'b", "plain/path"])
def test_commands_to_paste_are_quoted(value):
    command = command_line("evaluate", workdir=value, data="b")
    assert shlex.split(command)[-2:] == [f"--workdir={value}", "--data=b"]
    advice = LabelMap().advice(value)
    assert f"--label_map={value}=angry" in shlex.split(advice.split("map it with ")[1].split(", or")[0])


@pytest.mark.parametrize("name", ["../best.npz", "/etc/passwd", "a/../../b", "s3://b/a", "", "a\0b", ".."])
def test_file_outside_its_folder_is_rejected(name):
    with pytest.raises(UserError, match=r"run/best\.json names the file .*, which is not in run: it is damaged or not"):
        files.join_inside("run", name, "run/best.json")


@pytest.mark.parametrize("name", ["checkpoints/best-00000012.npz", "weights.npz", "..a/b..c"])
def test_file_in_its_folder_is_found(name):
    assert files.join_inside("run", name, "run/best.json") == f"run/{name}"
