"""fer/__init__.py: detection of another project's distribution `fer`."""

import os
import subprocess
import sys

import pytest


def import_beside(root, folder, name, files):
    """Imports our package in a process whose path holds a distribution with the files. Returns standard error."""
    (folder / name).mkdir()
    (folder / name / "METADATA").write_text("Metadata-Version: 2.1\nName: fer\nVersion: 25.10.3\n")
    (folder / name / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    for file in files:  # Python 3.12 lists only those that exist
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).touch()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(folder)])}
    command = [sys.executable, "-c", "import fer; print(fer.KERAS)"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "keras\n" if sys.version_info < (3, 12) else "tf-keras\n"), done.stderr
    return done.stderr


def test_import_warns_of_the_distribution_fer_of_another_project(root, tmp_path):
    warning = import_beside(root, tmp_path, "fer-25.10.3.dist-info", ["fer/__init__.py", "fer/fer.py"])
    assert warning.count("UserWarning: ") == 1
    assert f"fer 25.10.3 of another project in {tmp_path}" in warning
    assert "-m pip uninstall fer" in warning


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("fer_trainer-0.1.0.dist-info", ["fer/__init__.py"]),
        ("fer-25.10.3.dist-info", ["__editable__.fer-25.10.3.pth"]),
        ("fer_pytorch-1.0.dist-info", ["fer_pytorch/__init__.py"]),
    ],
)
def test_import_is_silent_beside_distributions_without_our_package(root, tmp_path, name, files):
    assert import_beside(root, tmp_path, name, files) == ""
