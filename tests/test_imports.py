"""The dependency rules between the packages: which may import which."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest

import fer

PACKAGE = pathlib.Path(fer.__file__).parent
# The modules of the package itself, and fer.io: they import each other and no other package.
ROOT = {path.stem for path in PACKAGE.glob("*.py")} | {"io"}
PACKAGES = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"io"}
# package -> the packages that it may import besides the root modules and itself
ALLOWED = {
    "data": set(),
    "augment": set(),
    "models": set(),
    "synthetic": set(),
    "viz": {"evaluation.metrics"},  # the bins of the reliability diagram
    "convert": {"data", "synthetic", "viz"},
    "evaluation": {"data", "models", "viz"},
    "train": {"data", "augment", "models", "viz", "evaluation.metrics"},
    "predict": {"data", "models", "evaluation", "viz", "convert"},
    "export": {"data", "models", "evaluation", "viz"},
    "compare": {"data", "models", "evaluation", "viz"},
}
ALLOWED |= {name: PACKAGES - {"sweep", "demo", "benchmark"} for name in ("sweep", "demo", "benchmark")}


def own_imports(path: pathlib.Path) -> set[str]:
    """Returns the modules of ours that a file imports anywhere, without the leading "fer."."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.partition(".")[2] for name in names if name == "fer" or name.startswith("fer.")}


def files_of(package: str) -> list[pathlib.Path]:
    return sorted((PACKAGE / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_package_imports_only_the_packages_it_may(package):
    assert files_of(package), f"fer/{package} holds no file"
    for path in files_of(package):
        for name in own_imports(path):
            parts = name.split(".")
            if parts[0] in PACKAGES - {package}:
                allowed = parts[0] in ALLOWED[package] or ".".join(parts[:2]) in ALLOWED[package]
                assert allowed, f"{path.relative_to(PACKAGE)} imports fer.{name}"


@pytest.mark.parametrize("module", sorted(ROOT - {"__init__"}))
def test_root_module_imports_no_package(module):
    paths = files_of("io") if module == "io" else [PACKAGE / f"{module}.py"]
    for path in paths:
        assert {name.split(".")[0] for name in own_imports(path)} - {""} <= ROOT, path


def test_folders_hold_at_most_18_modules():
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        assert len(list(folder.glob("*.py"))) - (folder / "__init__.py").exists() <= 18, folder


def test_modules_of_a_training_import_sklearn_only_in_functions():
    """Importing scikit-learn takes longer than importing all modules of a training."""
    others = [PACKAGE / "viz" / "plots.py", PACKAGE / "evaluation" / "metrics" / "metrics.py"]
    for path in [*files_of("train"), *files_of("data"), *files_of("models"), *files_of("augment"), *others]:
        for line in path.read_text().splitlines():
            assert not line.startswith(("import sklearn", "from sklearn")), path


def test_labels_imports_no_own_module():
    assert own_imports(PACKAGE / "labels.py") == set()


def test_scripts_are_not_own_imports(root):
    for path in [*PACKAGE.rglob("*.py"), *(root / "configs").glob("*.py")]:
        assert "scripts" not in {line.split()[1].split(".")[0] for line in import_lines(path)}, path


def import_lines(path: pathlib.Path) -> list[str]:
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line.startswith(("import ", "from "))]


def test_scripts_are_short(root):
    for path in (root / "scripts").glob("*.py"):
        assert len(path.read_text().splitlines()) < 80, path


def test_train_reads_only_manifests_with_sealed_test_split():
    """Guarantee 3: every file of fer/train that reads a manifest removes the test split at once."""
    calls = [
        line
        for path in files_of("train")
        for line in path.read_text().splitlines()
        if "manifest.read_manifest(" in line
    ]
    assert calls
    assert all(".seal_test_split()" in line for line in calls)


# Imported before the flags of a program are parsed, or by `import fer`.
LIGHT = [f"fer.{name}" for name in sorted(ROOT - {"__init__", "io", "tf_workarounds"})] + [
    *("fer.augment.grammar", "fer.data.manifest", "fer.models.loading", "fer.models.model_table"),
    "fer.train.distributed.cluster_resolver",
]
SIDE_EFFECTS = """
import os, signal, sys, threading
import fer
environment, handlers = dict(os.environ), [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
streams, folder = (sys.stdout, sys.stderr), os.listdir()
for name in sys.argv[1:]:
    __import__(name)
assert "tensorflow" not in sys.modules, "TensorFlow is loaded"
assert dict(os.environ) == environment, "an environment variable is changed"
assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers, "a handler is changed"
assert (sys.stdout, sys.stderr) == streams, "a stream is replaced"
assert threading.active_count() == 1, "a thread is started"
assert os.listdir() == folder, "a file is written"
"""


def test_imports_before_flag_parsing_have_no_side_effects(tmp_path):
    command = [sys.executable, "-c", SIDE_EFFECTS, *LIGHT]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


RUN_FILES = {
    *("config.json", "history.json", "best.json", "rollbacks.json", "curves.png", "owner.json", "checkpoint.json"),
    *("history.csv", "weights.npz", "graph.pb", "MODEL_CARD.md", "eval.json", "predictions.npz"),
}
RUN_KEYS = {  # of these files and of no other
    *("git_commit", "teachers", "initialized_from", "earlier_configs", "last_step", "began_with"),
    *("graph", "graph_sha256", "rounded_to", "rounded_from_sha256", "rollbacks", "batches_left_out"),
}


def test_names_and_keys_of_run_files_are_literals_of_run_dir_only():
    for path in sorted(PACKAGE.rglob("*.py")):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        literals = {node.value for node in nodes if isinstance(node.value, str)}
        found = literals & (RUN_FILES | RUN_KEYS) | {each for each in literals if re.match("(best|step)-", each)}
        if path.name == "run_dir.py":
            assert found >= RUN_FILES | {"best-", "step-"}
        else:
            assert not found, path
