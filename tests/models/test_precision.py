"""What auto becomes on which device."""

import pytest
import tensorflow as tf

from fer.errors import UserError
from fer.models import precision
from fer.train import runfolder
from tests.train import made


def machine(monkeypatch, tmp_path, flags: str = "", gpus: tuple = ()) -> None:
    """Makes TensorFlow and Linux tell of other devices."""
    cpuinfo = tmp_path / f"cpuinfo {flags}"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu sse2 {flags}\n")
    monkeypatch.setattr(precision, "CPUINFO", str(cpuinfo))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(gpus) if kind == "GPU" else ["CPU"])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": gpu} if gpu else {}
    )


@pytest.mark.parametrize(
    ("flags", "gpus", "becomes"),
    [
        ("avx2", (), "float32"),
        ("avx512f", (), "float32"),  # bfloat16 would be emulated
        ("avx512_bf16", (), "mixed_bfloat16"),
        ("amx_tile amx_bf16", (), "mixed_bfloat16"),
        ("", ((6, 1),), "float32"),
        ("amx_bf16", ((6, 1),), "float32"),  # the GPU computes, not the CPU
        ("", ((7, 0),), "mixed_float16"),
        ("", ((7, 5),), "mixed_float16"),
        ("", ((8, 0),), "mixed_bfloat16"),
        ("", ((9, 0), (9, 0)), "mixed_bfloat16"),
        ("", ((9, 0), (7, 0)), "mixed_float16"),
        ("", (None,), "float32"),
    ],
)
def test_auto_goes_by_the_devices(monkeypatch, tmp_path, flags, gpus, becomes):
    machine(monkeypatch, tmp_path, flags, gpus)
    assert precision.fastest()[0] == becomes


def test_where_linux_tells_nothing_it_is_float32(monkeypatch, tmp_path):
    machine(monkeypatch, tmp_path)
    monkeypatch.setattr(precision, "CPUINFO", str(tmp_path / "absent"))
    assert precision.fastest()[0] == "float32"


def test_what_is_named_stays(monkeypatch, tmp_path):
    machine(monkeypatch, tmp_path, "amx_bf16")
    asked = made.experiment(precision="mixed_float16")
    assert precision.settled(asked) is asked


def test_a_run_records_what_auto_became_and_refuses_to_become_another(monkeypatch, tmp_path, synthetic_shards, capsys):
    asked, run = made.experiment(precision="auto"), str(tmp_path / "run")
    machine(monkeypatch, tmp_path, "amx_bf16")
    here = precision.settled(asked)
    assert capsys.readouterr().out == (
        "config.train.precision is auto, which becomes mixed_bfloat16 here: the CPU has amx_bf16.\n"
    )
    assert (asked.train.precision, here.train.precision) == ("auto", "mixed_bfloat16")
    runfolder.open_folder(run, here, synthetic_shards).record(here, synthetic_shards)
    runfolder.open_folder(run, precision.settled(asked), synthetic_shards)  # the same machine
    machine(monkeypatch, tmp_path, "avx2")
    with pytest.raises(UserError, match=r"another config \(train\.precision: 'mixed_bfloat16' -> 'float32'\)"):
        runfolder.open_folder(run, precision.settled(asked), synthetic_shards)


@pytest.mark.parametrize("allowed", [False, True])
def test_tensor_float_32_is_allowed_or_not(allowed):
    precision.allow_tensor_float_32(made.experiment(tf32=allowed).train)
    assert tf.config.experimental.tensor_float_32_execution_enabled() == allowed
