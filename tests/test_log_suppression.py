"""Output below Python is suppressed; errors are not."""

import os
import platform
import shlex
import subprocess
import sys

import pytest

from fer import log_suppression


def test_suppress_stderr_hides_output_of_file_descriptor(capfd):
    os.write(2, b"before\n")
    with log_suppression.suppress_stderr():
        os.write(2, b"within\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_suppress_stderr_keeps_closed_stderr_closed():
    program = (
        "from fer import log_suppression\n"
        "with log_suppression.suppress_stderr():\n    print('within')\nprint('after')\n"
    )
    command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(program)} 2>&-"
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "within\nafter\n")


def test_suppress_stderr_restores_stderr_after_exception(capfd):
    with pytest.raises(ValueError, match="as it is"), log_suppression.suppress_stderr():
        raise ValueError("as it is")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_hidden_packages_cannot_be_imported_meanwhile_unless_they_are_loaded(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with log_suppression._hide_packages(("colorsys", "json")):
        import json  # noqa: F401 - is loaded

        with pytest.raises(ImportError):
            import colorsys
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)


@pytest.mark.parametrize(
    ("machine", "loaded", "before", "after"),
    [
        ("x86_64", False, None, "1"),
        ("x86_64", False, "0", "0"),
        ("x86_64", True, None, None),  # TensorFlow has read the variable
        ("aarch64", False, None, None),
    ],
)
def test_enable_onednn_sets_the_variable_on_x86_unless_it_is_decided(monkeypatch, machine, loaded, before, after):
    monkeypatch.setattr(log_suppression.platform, "machine", lambda: machine)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "to be restored")
    if before is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    else:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", before)
    if not loaded:
        monkeypatch.delitem(sys.modules, "tensorflow")
    log_suppression.enable_onednn()
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == after


@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN is enabled on x86-64 alone")
def test_import_tensorflow_enables_onednn():
    program = (
        "import os\nfrom fer import log_suppression\nlog_suppression.import_tensorflow()\n"
        "from tensorflow.python.util import _pywrap_util_port\n"
        "print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'), _pywrap_util_port.IsMklEnabled())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "1 True"  # on a slow machine, a line of progress comes first
