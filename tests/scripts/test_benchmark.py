"""Tests of scripts/benchmark.py; tests/benchmark tests the suites."""

import pytest

from tests.scripts import run_script


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=file/benchmark.json"], "file is a file. Choose another folder."),
        (["--policy=flop"], "flop"),
        (["--data=nowhere"], "nowhere has no manifest.json"),
        (["--update_doc=page.md", "--output=nowhere.json"], "There is no nowhere.json"),
        (["--update_doc=page.md", "--data=nowhere"], "--data has no effect with --update_doc"),
    ],
    ids=["output below a file", "unknown op", "no shards", "no results", "ignored flag"],
)
def test_benchmark_script_rejects_wrong_flags_before_measuring(tmp_path, arguments, message):
    (tmp_path / "file").write_text("")
    done = run_script.run("benchmark.py", tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("benchmark.py: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
