"""The documents against the code: links, commands, and tables of fields, ops, backbones and metrics."""

import functools
import importlib.util
import json
import pathlib
import re
import shlex
import types

import pytest

from fer import config
from fer.augment import policy, registry
from fer.config import Experiment

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "tfrecords/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
README_LINES = 140
MOST_WORDS = 9_800  # of the English guides: those of docs/ but for the reports; 12,000 with the English report

by_name = functools.partial(pytest.mark.parametrize, "page", PAGES, ids=lambda page: page.name)


def read_prose(page: pathlib.Path) -> str:
    """Returns the text of a page without its indented and fenced code."""
    parts = re.split(r"^```.*?^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return "\n".join(line for line in "\n".join(parts).splitlines() if not line.startswith("    "))


def heading_anchors(page: pathlib.Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.+)$", read_prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def read_commands(page: pathlib.Path) -> list[list[str]]:
    """Returns the words of each command of a page that starts one of our programs, the program first."""
    joined = re.sub(r"\\\n\s*", "", page.read_text().replace("\\|", "|"))
    found = re.findall(r"^    .*?\b((?:scripts|configs/aws)/\w+\.py .*)", joined, re.MULTILINE)
    return [shlex.split(command, comments=True) for command in found]


@functools.cache
def flags_of(program: str) -> set[str]:
    """Returns the names of the flags that a program defines."""
    text = (ROOT / program).read_text()
    defined = re.findall(r'(?:DEFINE_\w+|define_\w+)\(\s*"(\w+)"', text) + re.findall(r'"--(\w+)"', text)
    return {*defined, "debug", "help", "version"}


def load_module(path: pathlib.Path) -> types.ModuleType:
    """Imports a Python file under its own name."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(page: str, heading: str) -> list[list[str]]:
    """Returns the cells of the rows below the header of the tables that follow a heading, up to the next heading."""
    text = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", page, re.MULTILINE | re.DOTALL)[1]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


@by_name()
def test_page_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", read_prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in heading_anchors(found), f"{page.name} links to {target}"


@by_name()
def test_page_commands_name_programs_and_flags_that_exist(page):
    for program, *words in read_commands(page):
        assert (ROOT / program).exists(), f"{page.name}: {program}"
        for word in words:
            if word.startswith("--"):
                name = word[2:].partition("=")[0]
                assert name.partition(".")[0] in flags_of(program), f"{page.name}: {program} has no flag --{name}"
        config.check_overrides([word for word in words if word.startswith("--config.")])


@by_name()
def test_page_names_files_that_exist(page):
    """Checks the paths of code files in backquotes."""
    for path in re.findall(r"`((?:fer|scripts|configs|tests|docs)/[\w/.+-]+\.\w+)`", read_prose(page)):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


@by_name()
def test_page_has_no_private_words(page):
    text = page.read_text()
    found = load_module(ROOT / ".ci" / "style.py").private_words(text) + re.findall(r"(?i)\brivals?\b", text)
    assert found == [], page.name


def test_training_page_lists_every_config_field_with_its_default_and_meaning():
    page = (ROOT / "docs" / "training.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)=(.+?)` \|", page, re.MULTILINE)
    listed = {field: default.replace("\\|", "|") for field, default in rows}
    defaults = config.flatten(Experiment().to_dict())
    assert {field: listed.get(field) for field in defaults} == {
        field: repr(default) if default == "" else str(default) for field, default in defaults.items()
    }
    assert load_module(ROOT / "docs" / "build_config_tables.py").fill(page) == page


def test_training_page_lists_every_op_with_its_defaults():
    rows = table((ROOT / "docs" / "training.md").read_text(), "Augmentation")[1:]
    arguments_of = {name: cell for names, cell, _ in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(arguments_of) == set(registry.OPS)
    for name, op in registry.OPS.items():
        listed = dict(re.findall(r"(\w+)=([\w.]+)", arguments_of[name]))
        own = re.search(rf"`{name}` ([\d.]+)", arguments_of[name])  # where ops of one row differ in a default
        assert set(listed) == set(op.arguments), name
        policy.parse(f"{name}({','.join(f'{argument}={value}' for argument, value in listed.items())})")
        for argument, (default, _) in op.arguments.items():
            stated = own[1] if own else listed[argument]
            assert stated == default or float(stated) == default, f"{name}({argument}={stated})"


def test_models_page_names_every_backbone():
    page = (ROOT / "docs" / "models.md").read_text()
    known = {row["name"] for row in json.loads((ROOT / "fer" / "models" / "model_table.json").read_text())}
    assert known - set(re.findall(r"`(\w+)`", page)) == set()


def test_evaluation_page_names_every_key_of_eval_json():
    page = (ROOT / "docs" / "evaluation.md").read_text()
    (path,) = (ROOT / "fer").rglob("eval.schema.json")
    keys = set(json.loads(path.read_text())["properties"]) - {"schema_version"}
    assert {key for key in keys if f"`{key}`" not in page} == set()


def test_contributing_names_what_the_files_to_touch_hold():
    rows = re.findall(r"^\| (`[a-z]+/.+?) \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert len(rows) > 20
    for files, change in rows:
        text = "".join(
            (ROOT / path).read_text() for path in re.findall(r"`([\w/.]+)`", files) if (ROOT / path).is_file()
        )
        for name in re.findall(r"`([A-Z]\w+|measure)`", change):
            assert re.search(rf"\b{name}\b", text), f"{files} has no {name}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_readme_layout_lists_every_package():
    layout = re.search(r"^```\n(fer/\n.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]
    packages = {path.parent.name for path in (ROOT / "fer").glob("*/__init__.py")}
    assert set(re.findall(r"^  (\w+)/ ", layout, re.MULTILINE)) == packages
    for folder in re.findall(r"^(\w+)/ ", layout, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder


def test_docs_guides_are_short():
    guides = [page for page in (ROOT / "docs").glob("*.md") if not page.name.startswith("report")]
    count_words = load_module(ROOT / ".ci" / "style.py").count_words
    assert sum(count_words(page.read_text()) for page in guides) <= MOST_WORDS


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda path: path.stem)
def test_config_header_names_results_that_exist(path):
    for named in re.findall(r"docs/[\w/.+-]*\w", load_module(path).__doc__):
        assert (ROOT / named).exists(), named
