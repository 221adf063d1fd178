"""`.ci/style.py`: which docstrings, words, test names and imports its rules find."""

import ast
import importlib.util
import pathlib
import shutil
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / ".ci" / "style.py"


@pytest.fixture(scope="module")
def style():
    """Returns the script as a module."""
    spec = importlib.util.spec_from_file_location("style", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["style"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["style"]


def source_of(style, text, path="fer/data/example.py"):
    """Returns Python text as a file of the project."""
    return style.Source(path, text, ast.parse(text))


def words_in(style, text, path="fer/data/example.py"):
    """Returns the private words that are found in Python text."""
    return sorted(word for _, word in style.python_words(source_of(style, text, path)))


@pytest.mark.parametrize(
    "docstring",
    [
        "Returns the images.",
        "Return the images.",
        "Returns, on all workers, the same value.",
        "Multiplies by a factor.",
        "Labels each row.",
        "Checks that all workers agree.",
        "Applies an op.",
    ],
)
def test_is_verb_accepts_verbs(style, docstring):
    assert style.is_verb(docstring)


@pytest.mark.parametrize(
    "docstring",
    [
        "The images.",
        "What a row holds.",
        "Labels of the rows.",
        "[B, 7] float32.",
        "Images in order.",
        "`base`.",
        "RandAugment.",
    ],
)
def test_is_verb_rejects_fragments(style, docstring):
    assert not style.is_verb(docstring)


def test_is_fragment_allows_noun_phrases_for_modules_classes_and_properties(style):
    text = """
'''Codec of records.'''
class Codec:
    '''The codec.'''
    @property
    def size(self):
        '''Size in bytes.'''
    @functools.cached_property
    def name(self):
        '''What is printed.'''
    def read(self):
        '''The record.'''
"""
    nodes = style.docstrings(source_of(style, text))
    assert [text for node, _, text in nodes if style.is_fragment(node, text)] == ["What is printed.", "The record."]


def test_private_words_match_whole_words_in_any_case(style):
    assert style.private_words("Told of the crew; no numbers\nany more.") == ["told", "crew", "no numbers any more"]
    assert style.private_words("unseen headroom, in retelling; rows are kept, spooling") == []


def test_python_words_cover_comments_strings_and_our_names(style):
    assert words_in(style, "x = 1  # said once") == ["said"]
    assert words_in(style, 'raise ValueError(f"{x} was told")') == ["told"]
    assert words_in(style, "def tell_all(twins): pass") == ["tell", "twins"]
    assert words_in(style, "class Kept: pass") == ["kept"]
    assert words_in(style, "", "fer/data/crew.py") == ["crew"]


def test_python_words_ignore_names_of_libraries_and_usual_variables(style):
    assert words_in(style, "position = file.tell()\nseen = set()\nkept = [1]") == []


@pytest.mark.parametrize(
    "name",
    [
        "test_read_image_rejects_empty_file",
        "test_missing_shard_raises_user_error",
        "test_trial_leases_expire",
        "test_boxes_error_names_file",
    ],
)
def test_names_unit_accepts_names_that_begin_with_a_unit(style, name):
    known = {"read_image", "shard", "trial_lease", "box"}
    assert style.names_unit(name, known)


@pytest.mark.parametrize(
    "name",
    [
        "test_it_works",
        "test_a_shard_is_read",
        "test_what_shard_holds",
        "test_shard",
        "test_shard_is_named",
        "test_shards_are_refused_early",
        "test_missing_shard_is_a_sentence",
        "test_surprise_holds_for_hours",
    ],
)
def test_names_unit_rejects_names_outside_the_rule(style, name):
    assert not style.names_unit(name, {"shard", "hours"})


def test_units_are_modules_classes_functions_fields_and_flags(style):
    text = """
_RATE = flags.DEFINE_float("learning_speed", 0.1, "")
class BatchRng:
    sides: int
    def fold_in(self): pass
def _split_rows(): pass
"""
    known = style.units([source_of(style, text, "fer/data/row_reader.py")])
    assert known >= {"row_reader", "batch_rng", "sides", "fold_in", "split_rows", "learning_speed"}


def test_module_aliases_find_our_modules_under_another_name(style):
    text = """
import numpy as np
import fer.config as settings
from fer import config
from fer.config import Experiment as Settings
from fer.data import manifest as manifests
"""
    found = [line for line, _ in style.module_aliases(source_of(style, text))]
    assert found == [3, 6]


def test_count_parameters_leaves_self_out(style):
    function = ast.parse("def f(self, a, /, b, *, c): pass").body[0]
    assert style.count_parameters(function) == 3


def test_print_table_fails_above_limit_and_passes_at_target(style, monkeypatch, capsys):
    limits = {"one": style.Limit(0, 5, "first"), "two": style.Limit(0.03, 0, "second", share=True)}
    monkeypatch.setattr(style, "LIMITS", limits)
    assert style.print_table({"one": 5, "two": 2}, {"two": 100}) == []
    assert style.print_table({"one": 6, "two": 3}, {"two": 100}) == ["one", "two"]
    assert "FAILS" in capsys.readouterr().out


@pytest.fixture
def project(tmp_path):
    """Returns a folder with the script, a module and a README."""
    for name in (".ci", "fer/data"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / ".ci")
    (tmp_path / "setup.py").write_text("")
    (tmp_path / "README.md").write_text("A crew.\n")
    (tmp_path / "fer" / "data" / "codec.py").write_text("def read(path):\n    '''What it holds.'''\n")
    return tmp_path


def run_style(project, *flags):
    """Runs the script of a project."""
    command = [sys.executable, project / ".ci" / "style.py", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_style_lists_places_of_a_measure(project):
    done = run_style(project, "--list=private-words")
    assert "README.md:1: crew\n" in done.stdout
    assert "fer/data/codec.py" not in done.stdout
    assert "fer/data/codec.py:2: What it holds.\n" in run_style(project, "--list=fragments").stdout


def test_style_fails_above_limit(project):
    done = run_style(project)
    assert done.returncode == 1
    assert "fragments: 1 exceed the limit" in done.stderr
    (project / "fer" / "data" / "codec.py").write_text("def read(path):\n    '''Reads a file.'''\n")
    assert run_style(project).returncode == 0
    (project / "README.md").write_text("\n" * 200)
    done = run_style(project)
    assert done.returncode == 1
    assert "readme-lines: 200" in done.stderr


def test_style_counts_by_package(project):
    assert "fer/data" in run_style(project, "--packages").stdout
