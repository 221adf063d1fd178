"""Conversions from and to s3://, with a local server of the S3 protocol."""

import pathlib

import pytest

from tests.convert import input_factories
from tests.scripts import run_script

BOTH = """
import sys
from fer import cli, storage
from fer.io import files
from fer.convert import convert
from fer.data import manifest
from fer.convert.convert import Options
from fer.convert.verify import verify
from fer.errors import UserError
source, bad, local = sys.argv[1:]
out = "s3://bucket/out/faces"
files.copy(source, "s3://bucket/in/faces.csv")
here = convert.convert(Options(input=source, output=local))
there = convert.convert(Options(input="s3://bucket/in/faces.csv", output=out))
assert there.sha256 == here.sha256
assert sorted(files.listdir(out)) == sorted(files.listdir(local))
again = convert.convert(Options(input=source, output=out, shards=2, overwrite=True))
assert verify(out).sha256 == again.sha256 != here.sha256
assert files.listdir("s3://bucket/out") == ["faces"]
shards = [name for name in files.listdir(out) if name.endswith("tfrecord")]
assert len(shards) == 6, shards
try:
    convert.convert(Options(input=source, output=out))
except UserError as error:
    assert "exists already" in str(error)
else:
    raise AssertionError
assert verify(out).sha256 == again.sha256
try:
    convert.convert(Options(input=bad, output="s3://bucket/bad/faces"))
except UserError as error:
    assert "bad.csv, line 5" in str(error)
else:
    raise AssertionError
assert not files.exists("s3://bucket/bad")
print("all agree")
"""

KILLED = """
import json
import os
import s3fs  # before the forks; each child connects by itself
from fer import cli
from fer.io import files
from fer.convert import atomic_dir

out, names = "s3://bucket/killed/faces", ["a.tfrecord", "b.tfrecord", "manifest.json"]


def run_in_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def write_output(content, overwrite):
    splits = {"train": {"shards": [{"file": name} for name in names[:2]]}}
    with atomic_dir.atomic_directory(out, overwrite) as folder:
        for name in names:
            with open(os.path.join(folder, name), "w") as file:
                found = {"format_version": 1, "splits": splits, "created_by": "fer 1.0", "name": content}
                file.write(json.dumps(found))


def read_contents():
    paths = [os.path.join(out, name) for name in names]
    return [json.loads(files.open_file(path).read())["name"] for path in paths]


def exit_at(step):
    left = [step]

    def count_down(call):
        def called(*arguments, **options):
            if not left[0]:
                os._exit(9)
            left[0] -= 1
            return call(*arguments, **options)

        return called

    files.copy, files.remove = count_down(files.copy), count_down(files.remove)
    write_output("new", overwrite=True)
    os._exit(0)


def check_output():
    whole = files.exists(os.path.join(out, "manifest.json"))
    assert not whole or read_contents() in (["old"] * 3, ["new"] * 3)
    print("whole" if whole else "absent", flush=True)
    write_output("old", overwrite=whole)
    assert read_contents() == ["old"] * 3
    assert sorted(files.listdir(out)) == names
    os._exit(0)


step = 0
while run_in_child(lambda: exit_at(step)) == 9:
    assert run_in_child(check_output) == 0
    step += 1
print(step, "moments")
"""


def run(store: dict[str, str], folder: pathlib.Path, text: str, *arguments: str) -> list[str]:
    """Runs a program, which must succeed. Returns the lines that it prints."""
    (folder / "program.py").write_text(text)
    started = run_script.start(str(folder / "program.py"), folder, *arguments, environment=store)
    output, errors = started.communicate()
    assert started.returncode == 0, errors
    return output.splitlines()


def test_convert_with_s3_equals_local_conversion_and_leaves_nothing_after_bad_row(store, tmp_path):
    source = input_factories.write_file(tmp_path / "faces.csv", input_factories.make_csv(input_factories.noise(60)))
    bad = input_factories.write_file(
        tmp_path / "bad.csv", input_factories.make_csv(input_factories.noise(3)) + "junk\n"
    )
    assert run(store, tmp_path, BOTH, source, bad, str(tmp_path / "local"))[-1] == "all agree"


@pytest.mark.extended
def test_atomic_directory_on_s3_is_complete_or_absent_when_killed_at_any_step(store, tmp_path):
    states = run(store, tmp_path, KILLED)
    assert set(states[:-1]) == {"whole", "absent"}
    assert states[-1] == f"{len(states) - 1} moments"
    assert len(states) > 7  # three files removed, three written, the marker removed
