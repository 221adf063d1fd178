"""The length of error messages is bounded."""

import pytest

from fer import errors
from fer.convert import convert
from fer.errors import (
    MAX_LINE_CHARACTERS,
    MAX_LINES,
    StorageError,
    UserError,
    command_line,
    command_name,
    install_command,
    shorten,
)


@pytest.mark.parametrize("length", [0, MAX_LINE_CHARACTERS, MAX_LINE_CHARACTERS + 1, 100_000])
def test_shorten_keeps_both_ends(length):
    text = "begin " + "x" * (length - 10) + " end" if length else ""
    found = shorten(text)
    assert len(found) == min(length, MAX_LINE_CHARACTERS)
    assert (found == text) == (length <= MAX_LINE_CHARACTERS)
    assert (found[:6], found[-4:]) == (text[:6], text[-4:])


def test_install_command_names_checkout_or_distribution(root, monkeypatch, tmp_path):
    monkeypatch.setattr(errors.sys, "executable", f"{root}/.venv/bin/python")
    monkeypatch.chdir(root)
    assert install_command("s3") == ".venv/bin/python -m pip install -e '.[s3]'"
    monkeypatch.chdir(tmp_path)
    assert install_command("s3") == f"{root}/.venv/bin/python -m pip install -e '{root}[s3]'"
    monkeypatch.setattr(errors, "_CHECKOUT", tmp_path)
    assert install_command("s3") == f"{root}/.venv/bin/python -m pip install 'fer-trainer[s3]'"


def test_command_line_is_relative_inside_the_current_folder(root, monkeypatch, tmp_path):
    monkeypatch.setattr(errors.sys, "executable", f"{root}/.venv/bin/python")
    monkeypatch.chdir(root)
    assert command_line("evaluate", workdir="a b", data=None) == (
        ".venv/bin/python scripts/evaluate.py --workdir='a b'"
    )
    assert command_name("evaluate") == "scripts/evaluate.py"
    monkeypatch.setattr(errors.sys, "executable", "/opt/my python/bin/python")
    monkeypatch.chdir(tmp_path)
    assert command_line("predict") == f"'/opt/my python/bin/python' {root}/scripts/predict.py"
    monkeypatch.setattr(errors, "_CHECKOUT", tmp_path)  # an installed package, in a notebook
    assert (command_line("gpu_check", data="x"), command_name("gpu_check")) == (
        "fer-gpu-check --data=x",
        "fer-gpu-check",
    )


@pytest.mark.parametrize("kind", [UserError, StorageError])
def test_user_error_bounds_lines_and_their_number(kind):
    lines = str(kind("\n".join(["y" * 1000] * 200))).splitlines()
    assert len(lines) == MAX_LINES + 1
    assert max(map(len, lines)) == MAX_LINE_CHARACTERS
    assert lines[-1] == "... and 150 lines more"
    assert str(kind("one sentence.")) == "one sentence."


@pytest.mark.parametrize(
    "header",
    ["0," + "89 " * 2303 + "89,Training", "emotion," + ",".join(f"pixel{k}" for k in range(2304)), "z" * 100_000],
    ids=["no header", "column a pixel", "one word"],
)
def test_conversion_error_about_long_header_is_short(tmp_path, header):
    (tmp_path / "faces.csv").write_text(f"{header}\n0,1\n")
    with pytest.raises(UserError, match=r"faces\.csv") as caught:
        convert.convert(convert.Options(input=str(tmp_path / "faces.csv"), output=str(tmp_path / "out")))
    assert len(str(caught.value)) <= MAX_LINE_CHARACTERS
