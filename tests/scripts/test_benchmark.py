"""scripts/benchmark.py's mistakes; what it measures, tests/benchmark tries part by part."""

import pytest

from tests.scripts import run_script


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output=file/benchmark.json"], "file is a file. Choose another folder."),
        (["--policy=flop"], "flop"),
        (["--fill=page.md", "--output=nowhere.json"], "There is no nowhere.json"),
    ],
    ids=["no place", "no such operation", "no figures"],
)
def test_a_mistake_gets_one_sentence_exit_code_1_and_is_told_before_minutes_of_measuring(tmp_path, arguments, said):
    (tmp_path / "file").write_text("")
    done = run_script.run("benchmark.py", tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("benchmark.py: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
