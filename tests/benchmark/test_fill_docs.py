"""Tests of fer/benchmark/fill_docs.py and of the results in docs/performance.md."""

import json

import pytest

from fer.benchmark import fill_docs
from fer.errors import UserError

CONTENT = {
    "machine": {"processor": "a processor", "cores": 2, "gpus": 0},
    "versions": {"fer": "1", "python": "3.11", "tensorflow": "2.15"},
    "results": [
        {"suite": "nap", "name": "quick, 2 naps", "value": 1234.4, "low": 1200.0, "high": 1300.0, "ratio": 4.126},
        {
            **{"suite": "nap", "name": "long", "value": 150.0, "low": 150.0, "high": 150.0},
            **{"ratio": 0.5, "ratio_low": 0.4, "ratio_high": 0.625},
        },
        {"suite": "nap", "name": "slow", "value": 300.0, "low": 300.0, "high": 300.0, "ratio": None},
        {"suite": "nap", "name": "naps", "value": 93.75, "low": 86.2, "high": 97.3, "unit": "% found", "ratio": None},
        {"suite": "nap", "name": "start", "value": 2.2, "low": 1.9, "high": 2.4, "unit": "s", "ratio": None},
        {"suite": "nap", "name": "kernels", "value": 5.0, "low": 5.0, "high": 5.0, "unit": "launches", "ratio": None},
    ],
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("nap / quick, 2 naps / value", "1,234 (1,200 to 1,300)"),
        ("nap / slow / value", "300"),
        ("nap / naps / value", "93.8 (86.2 to 97.3)"),
        ("nap / start / value", "2.2 (1.9 to 2.4)"),
        ("nap / kernels / value", "5"),
        ("nap / quick, 2 naps / ratio", "4.13"),
        ("nap / quick, 2 naps / ratio >= 4", "4.13, met"),
        ("nap / quick, 2 naps / ratio >= 4.2", "4.13, missed"),
        ("nap / long / ratio", "0.50 (0.40 to 0.62)"),
        ("nap / long / ratio <= 0.5", "0.50 (0.40 to 0.62), met"),
        ("nap / slow / value <= 300", "300, met"),
        ("machine", "a processor, 2 cores, no GPU; TensorFlow 2.15, Python 3.11, fer 1"),
    ],
)
def test_fill_text_replaces_any_previous_result(source, text):
    for previous in ("", "17", "1,111 (1 to 2), met"):
        document = f"before <!--{source}-->{previous}<!--/--> | <!-- a note -->after\n"
        expected = f"before <!--{source}-->{text}<!--/--> | <!-- a note -->after\n"
        assert fill_docs.fill_text(document, CONTENT) == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "nap / quik, 2 naps / ratio",
            "'nap / quik, 2 naps', which was not measured; the nearest is nap / quick, 2 naps",
        ),
        ("nap / slow / median", 'must end in "value", "ratio" or'),
        ("nap / slow / value > 3", 'must end in "value", "ratio" or'),
        ("nap / slow / ratio", "'nap / slow', which has no baseline"),
    ],
)
def test_fill_text_error_names_the_result(source, message):
    with pytest.raises(UserError) as caught:
        fill_docs.fill_text(f"<!--{source}-->3<!--/-->", CONTENT)
    assert message in str(caught.value)


def test_fill_text_makes_a_table_of_rows_and_columns():
    names = {"share: a: 8 GPUs": 99.44, "share: a: 32 GPUs": 9.0, "share: b: 8 GPUs": 1.0, "share: b: 32 GPUs": 2.0}
    measured = [
        {"suite": "s", "name": name, "value": value, "low": value, "high": value, "unit": "%", "ratio": None}
        for name, value in names.items()
    ]
    text = fill_docs.fill_text("a\n<!--table s / share-->\nold\n<!--/-->\nz", {**CONTENT, "results": measured})
    table = "|  | 8 GPUs | 32 GPUs |\n| --- | --- | --- |\n| a | 99.4 | 9.0 |\n| b | 1.0 | 2.0 |"
    assert text == f"a\n<!--table s / share-->\n{table}\n<!--/-->\nz"
    assert fill_docs.fill_text(text, {**CONTENT, "results": measured}) == text
    with pytest.raises(UserError, match="names the table 'shares' of the suite 's', which has no results"):
        fill_docs.fill_text("<!--table s / shares-->\n<!--/-->", {**CONTENT, "results": measured})


@pytest.mark.parametrize("content", [[], {"splits": {}}])
def test_fill_error_names_file_without_results(tmp_path, content):
    (tmp_path / "page.md").write_text("nothing")
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"manifest\.json has no results of scripts/benchmark\.py"):
        fill_docs.fill(str(tmp_path / "page.md"), str(tmp_path / "manifest.json"))


def test_fill_replaces_the_document(tmp_path):
    page, figures = tmp_path / "page.md", tmp_path / "benchmark.json"
    page.write_text("<!--nap / slow / value-->?<!--/-->\n")
    figures.write_text(json.dumps(CONTENT))
    fill_docs.fill(str(page), str(figures))
    assert page.read_text() == "<!--nap / slow / value-->300<!--/-->\n"


@pytest.mark.parametrize(
    ("page", "figures", "cells"),
    [
        ("performance.md", "benchmark", 30),
        ("results/benchmark/detect.md", "detect", 30),
        ("results/benchmark/avx2.md", "avx2", 30),
        ("multi_gpu.md", "scaling", 1),
    ],
)
def test_docs_have_the_recorded_results(root, page, figures, cells):
    text = (root / "docs" / page).read_text()
    measured = json.loads((root / "docs" / "results" / "benchmark" / f"{figures}.json").read_text())
    assert len(fill_docs.CELL.findall(text)) > cells
    assert fill_docs.fill_text(text, measured) == text, (
        f"scripts/benchmark.py --update_doc=docs/{page} --output=docs/results/benchmark/{figures}.json sets them"
    )


def test_docs_performance_has_results_of_every_recorded_suite(root):
    text = (root / "docs" / "performance.md").read_text()
    measured = json.loads((root / "docs" / "results" / "benchmark" / "benchmark.json").read_text())["results"]
    for suite in {result["suite"] for result in measured}:
        assert f"<!--{suite} / " in text or f"<!--table {suite} / " in text, suite
