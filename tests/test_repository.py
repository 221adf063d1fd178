"""The files that describe the repository to other tools: workflow, hooks, citation."""

import os
import re
import shutil
import subprocess

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: ml-collections brings it")


def read_yaml(path):
    """Returns the content of a YAML file."""
    return yaml.safe_load(path.read_text())


def read_hooks(root):
    """Returns the hooks of pre-commit by their id."""
    config = read_yaml(root / ".pre-commit-config.yaml")
    return {hook["id"]: hook for repo in config["repos"] for hook in repo["hooks"]}


def tracked_files(root, every=False):
    """Returns the tracked files that exist and that the hooks check, or with `every` also the others."""
    exclude = read_yaml(root / ".pre-commit-config.yaml")["exclude"]
    if not (root / ".git").exists():
        pytest.skip("the files are not in a Git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout
    return [
        root / name
        for name in listed.splitlines()
        if (root / name).is_file() and (every or not re.search(exclude, name))
    ]


def test_workflow_runs_ci_script_with_read_permission(root):
    workflow = read_yaml(root / ".github" / "workflows" / "ci.yml")
    steps = workflow["jobs"]["test"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands == [".ci/run"]
    assert (root / commands[0]).stat().st_mode & 0o111
    assert workflow["permissions"] == {"contents": "read"}


def test_workflow_installs_a_python_of_each_tensorflow(root):
    (setup,) = (
        step["with"]
        for step in read_yaml(root / ".github" / "workflows" / "ci.yml")["jobs"]["test"]["steps"]
        if "setup-python" in step.get("uses", "")
    )
    assert setup["python-version"].split() == ["3.12", "3.11"]


def run_make(root, tmp_path, *arguments, python_exit_code):
    """Runs make where every Python on the path is a program that only exits with the given code."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("python3", "python3.10", "python3.11", "python3.12", "python3.13"):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {python_exit_code}\n")
        (tmp_path / name).chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of make test
    environment = {**inherited, "PATH": path, "HOME": str(tmp_path)}
    return subprocess.run(["make", *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_make_install_error_names_the_targets_of_newer_pythons(root, tmp_path):
    done = run_make(root, tmp_path, "install", f"VENV={tmp_path / 'venv'}", python_exit_code=1)
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if not line.startswith("make"))
    assert line.startswith("Python 3.10 or 3.11 ")
    assert line.endswith("With Python 3.12 or 3.13, use TensorFlow 2.21: make install-next, demo-next, test-next.")
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_target_runs_the_same_commands_on_both_tensorflows(root, tmp_path, target):
    dry_run = ("--dry-run", "--always-make")  # as if nothing were installed
    old, new = (
        run_make(root, tmp_path, *dry_run, name, python_exit_code=0).stdout for name in (target, f"{target}-next")
    )
    commands = [line for line in new.splitlines() if re.search(r"(scripts/|-m pytest|/tensorboard)", line)]
    assert commands
    for command in commands:
        assert ".venv-next/bin/" in command
        assert command.replace(".venv-next", ".venv") in old


def test_ci_runs_the_default_tests_on_both_tensorflows_where_their_pythons_are(root, tmp_path):
    assert "make test-all" in (root / ".ci" / "run").read_text().splitlines()
    with_python, without = (
        run_make(root, tmp_path, "--dry-run", "test-all", python_exit_code=code).stdout for code in (0, 1)
    )
    default = "/bin/python -m pytest --numprocesses 2 --dist worksteal"
    assert {f".venv{default}", f".venv-next{default}"} < set(with_python.splitlines())
    assert f".venv-next{default}" not in without
    assert "TensorFlow 2.21 was not tested." in without.splitlines()


def test_hooks_run_the_commands_of_make_lint(root):
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (root / "Makefile").read_text(), re.MULTILINE)[1]
    found = read_hooks(root)
    assert set(found) >= {"ruff", "ruff-format", "style", "end-of-file-fixer", "trailing-whitespace"}
    for name, command in (("ruff", "ruff check"), ("ruff-format", "ruff format"), ("style", ".ci/style.py")):
        assert command in found[name]["entry"]
        assert command in lint


def test_files_are_no_larger_than_the_hook_allows(root):
    hook = read_hooks(root)["check-added-large-files"]
    limit = int(re.fullmatch(r"--maxkb=(\d+)", hook["args"][0])[1]) * 1024
    large = {path.relative_to(root).as_posix() for path in tracked_files(root) if path.stat().st_size > limit}
    assert {name for name in large if not re.search(hook["exclude"], name)} == set()
    assert large, "the exclusion is not needed any longer"


def test_files_hold_no_page_or_picture_of_dataset_faces(root):
    """FER-2013's images have no licence. The programs draw them in files of these names."""
    pictures = {"report.html", "mistakes.png", "gradcam.png", "corruptions.png", "audit.html", "preview.png"}
    recorded = [path for path in tracked_files(root, every=True) if (root / "docs" / "results") in path.parents]
    assert len(recorded) > 100
    assert [path for path in recorded if path.name in pictures] == []
    ignored = (root / ".gitignore").read_text().splitlines()
    assert {f"/docs/results/**/{name}" for name in pictures} <= set(ignored)


def test_files_end_with_one_newline_and_lines_without_space(root):
    wrong = []
    for path in tracked_files(root):
        content = path.read_bytes()
        if content and b"\0" not in content:
            spaces = any(line != line.rstrip(b" \t\r") for line in content.split(b"\n"))
            wrong += [path] if spaces or not content.endswith(b"\n") or content.endswith(b"\n\n") else []
    assert wrong == []


def test_citation_agrees_with_the_package(root):
    citation = read_yaml(root / "CITATION.cff")
    package = (root / "pyproject.toml").read_text()
    name, description = (re.search(rf'^{key} = "(.+?)"', package, re.MULTILINE)[1] for key in ("name", "description"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"].lower() == f"{name}: {description}".lower()
    assert f'license = {{text = "{citation["license"]}"}}' in package
    assert [author["name"] for author in citation["authors"]] == re.findall(
        r'authors = \[\{name = "(.+?)"\}\]', package
    )
    assert citation["message"]
