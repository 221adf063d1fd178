"""The locked dependencies: each can be imported together with the others."""

import importlib.metadata
import json
import re
import subprocess
import sys
import sysconfig

import pytest

# Imports the modules named by the arguments, and prints the errors of those that fail as JSON.
IMPORT_ALL = """
import importlib, json, sys, warnings
warnings.simplefilter("ignore")
errors = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        errors[name] = f"{type(error).__name__}: {error}"
json.dump(errors, sys.stdout)
"""

# TensorFlow loads this module itself, and a second import registers gs:// twice.
NOT_FOR_IMPORT = {"tensorflow_io_gcs_filesystem"}


def import_errors(names: list[str]) -> dict[str, str]:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout[done.stdout.rindex("{") :])


def modules_by_distribution() -> dict[str, list[str]]:
    """Returns the top-level modules of each installed distribution, by its normalized name."""
    found: dict[str, list[str]] = {}
    # Other folders of the path hold the modules that setuptools vendors and, in a checkout, the package itself.
    for distribution in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")]):
        parts = [file.parts for file in distribution.files or () if file.suffix in (".py", ".so")]
        modules = {first.partition(".")[0] if not rest else first for first, *rest in parts}
        key = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        found[key] = sorted(name for name in modules if re.fullmatch(r"[A-Za-z]\w*", name) and name != "tests")
    return found


@pytest.mark.extended
def test_requirements_lock_lists_importable_distributions(root):
    """A satisfiable pin may still fail to import, such as a pyarrow built for NumPy 2 beside NumPy 1."""
    lock = "requirements.lock" if sys.version_info < (3, 12) else "requirements-next.lock"
    locked = set(re.findall(r"^([a-z0-9-]+)==", (root / lock).read_text(), re.MULTILINE))
    modules = [name for key, names in modules_by_distribution().items() if key in locked for name in names]
    names = sorted(set(modules) - NOT_FOR_IMPORT)
    assert {"tensorflow", "numpy", "pandas", "pyarrow"} <= set(names)
    suspects = import_errors(names)  # one process first: fast, but modules may disturb each other
    errors = {name: error for each in suspects for name, error in import_errors([each]).items()}
    assert not errors
