"""The dependency rules between the packages: which may import which."""

import ast
import pathlib

import pytest

import fer

PACKAGE = pathlib.Path(fer.__file__).parent
BASE = {"labels", "config", "durable", "errors", "files", "literal_path", "progress", "quiet", "remote"}
BASE |= {"escaping", "flag_paths", "local_write", "streams", "temp_files", "transaction"}
ROOMS = {"data", "augment", "models", "train", "evaluation", "benchmark", "demo", "sweep"}
# room -> the rooms that it may import besides the base and itself
ALLOWED = {
    "data": set(),
    "augment": set(),
    "models": set(),
    "evaluation": {"data", "models"},
    "train": {"data", "augment", "models", "evaluation.metrics", "evaluation.plots"},
    "demo": {"data", "evaluation"},
    "benchmark": {"data", "augment", "models", "train", "evaluation"},
    "sweep": {"data", "train", "evaluation"},  # trains and evaluates whole runs, and reads the manifest's hash
}


def imported(path: pathlib.Path) -> set[str]:
    """Our modules that a file imports, without the leading "fer.", anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.partition(".")[2] for name in names if name == "fer" or name.startswith("fer.")}


def files_of(room: str) -> list[pathlib.Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_the_rooms_it_may(room):
    assert files_of(room), f"fer/{room} holds no file"
    for path in files_of(room):
        for name in imported(path):
            parts = name.split(".")
            if parts[0] in ROOMS - {room}:
                allowed = parts[0] in ALLOWED[room] or ".".join(parts[:2]) in ALLOWED[room]
                assert allowed, f"{path.relative_to(PACKAGE)} imports fer.{name}"


@pytest.mark.parametrize("module", sorted(BASE))
def test_the_base_imports_no_room(module):
    rooms = {name.split(".")[0] for name in imported(PACKAGE / f"{module}.py")}
    assert rooms <= BASE


def test_labels_import_nothing_of_ours():
    assert imported(PACKAGE / "labels.py") == set()


def test_nothing_imports_the_scripts(root):
    for path in [*PACKAGE.rglob("*.py"), *(root / "configs").glob("*.py")]:
        assert "scripts" not in {line.split()[1].split(".")[0] for line in import_lines(path)}, path


def import_lines(path: pathlib.Path) -> list[str]:
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line.startswith(("import ", "from "))]


def test_scripts_are_short(root):
    for path in (root / "scripts").glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, path


def test_only_the_trainers_sealed_manifest_reaches_training():
    """Promise 3: no file of fer/train reads a manifest without taking the test split away at once."""
    calls = [line for path in files_of("train") for line in path.read_text().splitlines() if "manifest.read(" in line]
    assert calls
    assert all(".without_test()" in line for line in calls)


@pytest.mark.parametrize("room", ["", *sorted(ROOMS)])
def test_no_type_is_joined_with_a_bar_outside_of_annotations(room):
    """Python 3.9 cannot: there, `A | B` of two types is an error when the file is imported."""
    for path in files_of(room) if room else sorted(PACKAGE.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            bars = isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp)
            assert not (bars and isinstance(node.value.op, ast.BitOr)), f"{path}, line {node.lineno}: write Union[...]"
