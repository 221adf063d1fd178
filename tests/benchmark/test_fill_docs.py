"""Figures in documents are those of the benchmark's file, and those that ship agree with it."""

import json

import pytest

from fer.benchmark import fill_docs
from fer.errors import UserError

CONTENT = {
    "machine": {"processor": "a processor", "cores": 2, "gpus": 0},
    "versions": {"fer": "1", "python": "3.11", "tensorflow": "2.15"},
    "results": [
        {"suite": "nap", "name": "quick, 2 naps", "value": 1234.4, "low": 1200.0, "high": 1300.0, "ratio": 4.126},
        {"suite": "nap", "name": "slow", "value": 300.0, "low": 300.0, "high": 300.0, "ratio": None},
    ],
}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("nap / quick, 2 naps / value", "1,234 (1,200 to 1,300)"),
        ("nap / slow / value", "300"),
        ("nap / quick, 2 naps / ratio", "4.13"),
        ("nap / quick, 2 naps / ratio >= 4", "4.13, met"),
        ("nap / quick, 2 naps / ratio >= 4.2", "4.13, missed"),
        ("nap / slow / value <= 300", "300, met"),
        ("machine", "a processor, 2 cores, no GPU; TensorFlow 2.15, Python 3.11, fer 1"),
    ],
)
def test_a_figure_is_set_whatever_stood_there(asked, told):
    for stood in ("", "17", "1,111 (1 to 2), met"):
        text = f"before <!--{asked}-->{stood}<!--/--> | <!-- a note -->after\n"
        assert fill_docs.fill_text(text, CONTENT) == f"before <!--{asked}-->{told}<!--/--> | <!-- a note -->after\n"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            "nap / quik, 2 naps / ratio",
            "'nap / quik, 2 naps', which was not measured; the nearest is nap / quick, 2 naps",
        ),
        ("nap / slow / median", 'must end in "value" or "ratio"'),
        ("nap / slow / value > 3", 'must end in "value" or "ratio"'),
        ("nap / slow / ratio", "'nap / slow', which has no baseline"),
    ],
)
def test_what_cannot_be_set_is_named(asked, said):
    with pytest.raises(UserError) as caught:
        fill_docs.fill_text(f"<!--{asked}-->3<!--/-->", CONTENT)
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [[], {"splits": {}}])
def test_a_file_that_holds_no_figures_is_named(tmp_path, content):
    (tmp_path / "page.md").write_text("nothing")
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"manifest\.json holds no figures that scripts/benchmark\.py measured"):
        fill_docs.fill(str(tmp_path / "page.md"), str(tmp_path / "manifest.json"))


def test_a_file_is_filled_in_its_place(tmp_path):
    page, figures = tmp_path / "page.md", tmp_path / "benchmark.json"
    page.write_text("<!--nap / slow / value-->?<!--/-->\n")
    figures.write_text(json.dumps(CONTENT))
    fill_docs.fill(str(page), str(figures))
    assert page.read_text() == "<!--nap / slow / value-->300<!--/-->\n"


def test_the_figures_of_the_document_that_ships_are_those_that_were_measured(root):
    text = (root / "docs" / "performance.md").read_text()
    measured = json.loads((root / "docs" / "results" / "benchmark" / "benchmark.json").read_text())
    assert len(fill_docs.CELL.findall(text)) > 30
    assert fill_docs.fill_text(text, measured) == text, (
        "scripts/benchmark.py --fill=docs/performance.md --output=docs/results/benchmark/benchmark.json sets them"
    )


def test_every_suite_that_was_measured_stands_in_the_document_that_ships(root):
    text = (root / "docs" / "performance.md").read_text()
    measured = json.loads((root / "docs" / "results" / "benchmark" / "benchmark.json").read_text())["results"]
    for suite in {result["suite"] for result in measured}:
        assert f"<!--{suite} / " in text, suite
