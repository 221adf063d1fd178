"""Tests of scripts/compare.py."""

import numpy as np
import pytest

from tests.compare.test_comparison import evaluated
from tests.evaluation import factories
from tests.scripts import run_script


def test_two_runs_are_compared_in_words_and_files(tmp_path):
    evaluated(tmp_path / "a", range(10))
    evaluated(tmp_path / "b", range(5, 35))
    done = run_script.run("compare.py", tmp_path, "--evals=a/eval.json,b/eval.json", "--output=out")
    assert done.returncode == 0, done.stderr
    assert "a is better than b: " in done.stdout
    written = [line.partition("wrote ")[2] for line in done.stdout.splitlines() if line.startswith("wrote ")]
    assert sorted(written) == sorted(f"out/comparison.{kind}" for kind in ("json", "md", "html", "png"))
    assert all((tmp_path / path).stat().st_size for path in written)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--evals="], "flag --evals=[]: it must name a path"),
        (["--evals=b/eval.json"], "There is no b/eval.json: the evaluation is missing."),
        (["--evals=a/eval.json", "--baselines"], "--baselines needs --data: the directory of the shards"),
        (["--evals=a/eval.json", "--baselines=rival"], "--baselines names 'rival', which is none of fer-tflite"),
        (["--evals=a/eval.json", "--baselines", "--data=nowhere"], "nowhere"),
        (
            ["--evals=a/eval.json", "--baselines", "--data=faces", "--split=test"],
            "a/eval.json has the split validation, and --baselines would measure test: choose --split=validation.",
        ),
        (["--evals=nowhere", "--output=a/eval.json/out"], "a/eval.json is a file. Choose another folder."),
    ],
    ids=[
        "empty name",
        "no evaluation",
        "baselines without data",
        "unknown baseline",
        "no data",
        "other split",
        "output below a file",
    ],
)
def test_compare_reports_mistake_in_one_sentence_with_exit_code_1(tmp_path, arguments, message):
    evaluated(tmp_path / "a", range(10))
    factories.shards(tmp_path / "faces", {"test": (factories.images(7), np.arange(7))})
    done = run_script.run("compare.py", tmp_path, "--output=out", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("compare.py: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
