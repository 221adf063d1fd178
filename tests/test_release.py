"""The released wheel, built from a copy of the checkout."""

import configparser
import email
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

import fer

SOURCES = ["fer", "scripts", "configs", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory) -> zipfile.ZipFile:
    """Builds the wheel in another folder: leftovers of earlier builds in the checkout would be included."""
    folder = tmp_path_factory.mktemp("release")
    for name in SOURCES:
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, folder / name)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, "dist"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.slow
def test_wheel_contains_exactly_the_files_of_the_package(root, wheel):
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    folders = {"fer": "fer", "scripts": "fer/scripts", "configs": "fer/configs"}
    tracked = subprocess.run(["git", "ls-files", *folders], cwd=root, capture_output=True, text=True, check=True)
    expected = set()
    for path in tracked.stdout.splitlines():
        folder, _, rest = path.partition("/")
        for_checkout = folder == "configs" and ("/" in rest or not rest.endswith(".py"))  # configs/aws
        if not for_checkout:
            expected.add(f"{folders[folder]}/{rest}")
    assert inside == expected


@pytest.mark.slow
def test_scripts_become_commands(root, wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    points = configparser.ConfigParser()
    points.read_string(wheel.read(name).decode())
    scripts = {path.stem for path in (root / "scripts").glob("*.py")} - {"__init__"}
    commands = {f"fer-{script.replace('_', '-')}" for script in scripts}
    assert commands >= {"fer-train", "fer-gpu-check", "fer-import-weights"}
    assert dict(points["console_scripts"]) == dict.fromkeys(commands, "fer.scripts:run")


@pytest.mark.slow
def test_wheel_metadata_has_name_and_requirements(wheel):
    assert pathlib.PurePath(wheel.filename).name.startswith(f"fer_trainer-{fer.__version__}-py3")
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel.read(name))
    assert (metadata["Name"], metadata["Version"], metadata["License"]) == ("fer-trainer", fer.__version__, "MIT")
    assert metadata["Requires-Python"] == "<3.14,>=3.10"
    assert set(metadata.get_all("Provides-Extra")) >= {"s3", "photos", "export", "demo", "sweep", "gpu", "test"}
    assert any(each.startswith("tensorflow<2.16,>=2.15.1") for each in metadata.get_all("Requires-Dist"))
    assert metadata.get_payload().lstrip().startswith("# ")


@pytest.mark.slow
def test_wheel_command_runs_alone_and_finds_configs(wheel, tmp_path):
    wheel.extractall(tmp_path / "installed")
    (tmp_path / "fer-train").write_text("from fer.scripts import run\n\nrun()\n")
    done = subprocess.run(
        [sys.executable, "fer-train", "--config=compact", "--data=nowhere", "--workdir=run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "installed"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("train.py: nowhere has no manifest.json")


@pytest.mark.slow
def test_release_source_distribution_contains_all_tracked_files_but_results(root, tmp_path):
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True)
    tracked = [path for path in listed.stdout.splitlines() if not path.startswith("docs/results/")]
    for path in tracked:
        (tmp_path / "checkout" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, tmp_path / "checkout" / path)
    build = BUILD.replace("build_wheel", "build_sdist")
    done = subprocess.run([sys.executable, "-c", build, "../dist"], cwd=tmp_path / "checkout", capture_output=True)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(path) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert set(tracked) - inside == set()


def test_version_is_defined_once(root):
    changes = (root / "CHANGELOG.md").read_text()
    assert f"## {fer.__version__}" in changes
    for name in ("setup.py", "pyproject.toml"):
        assert fer.__version__ not in (root / name).read_text(), name
