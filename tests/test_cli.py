"""The behaviour that all programs share."""

import ast
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from fer import cli
from fer.errors import UserError

PRINTS_NAME = "from fer import errors\n\nprint(errors.command_line('evaluate'))\n"


def run_program(program: pathlib.Path, place: pathlib.Path) -> str:
    """Runs a program that imports our package from `place`. Returns its output."""
    environment = {**os.environ, "PYTHONPATH": str(place)}
    command = [sys.executable, str(program)]
    return subprocess.run(command, env=environment, cwd=program.parent, capture_output=True, text=True).stdout


def install_command(root: pathlib.Path, folder: pathlib.Path, script: pathlib.Path) -> pathlib.Path:
    """Creates the command of a script as an installation in `folder` does: it runs fer.scripts.NAME."""
    package, command = folder / "fer", folder / f"fer-{script.stem.replace('_', '-')}"
    (package / "scripts").mkdir(parents=True)
    for path in (root / "fer").iterdir():
        (package / path.name).symlink_to(path)
    shutil.copy(root / "scripts" / "__init__.py", package / "scripts")
    shutil.copy(script, package / "scripts")
    command.write_text("from fer.scripts import run\n\nrun()\n")
    return command


def test_command_line_follows_form_of_current_command(root, tmp_path):
    """Scripts are named by their path, and installed commands (modules fer.scripts.NAME) by their own name."""
    script = tmp_path / "train.py"
    script.write_text(PRINTS_NAME)
    assert run_program(script, root) == f"{sys.executable} {root}/scripts/evaluate.py\n"
    command = install_command(root, tmp_path / "installed", script)
    assert run_program(command, tmp_path / "installed") == "fer-evaluate\n"


def test_command_has_hyphens_when_install_command(root, tmp_path):
    script = tmp_path / "gpu_check.py"
    script.write_text(PRINTS_NAME.replace("evaluate", "import_weights"))
    assert run_program(script, root) == f"{sys.executable} {root}/scripts/import_weights.py\n"
    command = install_command(root, tmp_path / "installed", script)
    assert command.name == "fer-gpu-check"
    assert run_program(command, tmp_path / "installed") == "fer-import-weights\n"


def first_line(script: pathlib.Path) -> str:
    """Returns the first line of the docstring of a script."""
    return ast.get_docstring(ast.parse(script.read_text())).splitlines()[0]


def run_installed_help(root: pathlib.Path, folder: pathlib.Path, script: str) -> subprocess.CompletedProcess:
    """Installs a script as a command in a folder and runs it with --help."""
    command = install_command(root, folder, root / "scripts" / script)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, command, "--help"], env=environment, capture_output=True, text=True)


def test_help_of_installed_gpu_check_has_hyphens(root, tmp_path):
    done = run_installed_help(root, tmp_path, "gpu_check.py")
    summary = first_line(root / "scripts" / "gpu_check.py").replace("python scripts/gpu_check.py", "fer-gpu-check")
    assert ": fer-gpu-check --output=" in summary
    assert " ".join(done.stdout.split()).startswith(summary)
    assert "Flags of fer-gpu-check:\n" in done.stdout
    assert "gpu_check.py" not in done.stdout


def test_help_of_installed_command_names_installed_commands(root, tmp_path):
    done = run_installed_help(root, tmp_path, "predict.py")
    assert (done.returncode, done.stderr) == (0, "")
    summary = first_line(root / "scripts" / "predict.py").replace("python scripts/predict.py", "fer-predict")
    assert ": fer-predict photo.jpg|clip.mp4|DIR|a.csv|- ... [--workdir=DIR]" in summary
    assert " ".join(done.stdout.split()).startswith(summary)
    assert "  --workdir=A,B (default: bundled)\n      Run directory that fer-train wrote," in done.stdout
    assert "scripts/" not in done.stdout


def test_run_ends_with_one_line_when_interrupted(root, tmp_path):
    program = tmp_path / "wait.py"
    program.write_text(
        "import os, signal, time\nfrom fer import cli\n\n\ndef main():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(60)\n\n\n"
        # A shell without job control starts background processes with SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\ncli.run(main)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "wait.py: Interrupted.\n")


def test_run_hides_messages_below_a_warning_unless_verbosity_is_set(root, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from absl import logging\nfrom fer import cli\n"
        "def main():\n    logging.info('noise')\n    logging.warning('signal')\n"
        "cli.run(main)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}

    def logged(*flags: str) -> list[str]:
        command = [sys.executable, str(program), *flags]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return [line.split()[-1] for line in done.stderr.splitlines()]

    assert logged() == ["signal"]
    assert logged("--verbosity=0") == ["noise", "signal"]


@pytest.mark.parametrize("given", [["--config=compact"], ["--config", "compact"], ["-config", "compact"]])
def test_resolve_config_names_finds_shipped_config_by_bare_name(root, given):
    found = cli.resolve_config_names(["train.py", *given, "--workdir", "compact"])
    assert "=".join(found[1 : 1 + len(given)]).endswith(f"config={root}/configs/compact.py")
    assert found[-2:] == ["--workdir", "compact"]


@pytest.mark.parametrize("given", [["--config=compac"], ["--config", "compac"]])
def test_resolve_config_names_error_suggests_nearest_config(given):
    with pytest.raises(UserError, match="There is no configuration 'compac'; the nearest is compact"):
        cli.resolve_config_names(["train.py", *given])


@pytest.mark.parametrize("given", [["--config=my/compact.py"], ["--config", "my/compact.py"], ["--config", "--debug"]])
def test_resolve_config_names_keeps_paths_and_flags(given):
    assert cli.resolve_config_names(["train.py", *given]) == ["train.py", *given]
