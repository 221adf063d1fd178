"""Resolution of precision auto by device."""

import pathlib
import runpy

import pytest
import tensorflow as tf

import fer
from fer.config import Train
from fer.errors import UserError
from fer.models import precision
from fer.run_dir import RunDir, check_run_dir
from tests.train import factories


def machine(monkeypatch, tmp_path, flags: str = "", gpus: tuple = ()) -> None:
    """Makes TensorFlow and Linux report other devices."""
    cpuinfo = tmp_path / f"cpuinfo {flags}"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu sse2 {flags}\n")
    monkeypatch.setattr(precision, "CPUINFO", str(cpuinfo))
    for variable in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.delenv(variable, raising=False)
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
def test_best_precision_depends_on_the_devices(monkeypatch, tmp_path, flags, gpus, becomes):
    machine(monkeypatch, tmp_path, flags, gpus)
    assert precision.best_precision()[0] == becomes


@pytest.mark.parametrize(
    ("variable", "value", "becomes"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", "float32"),
        ("ONEDNN_MAX_CPU_ISA", "avx2", "float32"),
        ("DNNL_MAX_CPU_ISA", "AVX512_CORE", "float32"),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", "mixed_bfloat16"),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", "mixed_bfloat16"),
        ("ONEDNN_MAX_CPU_ISA", "ALL", "mixed_bfloat16"),
        ("TF_ENABLE_ONEDNN_OPTS", "0", "float32"),
        ("TF_ENABLE_ONEDNN_OPTS", "1", "mixed_bfloat16"),
    ],
)
def test_best_precision_respects_the_cap_on_onednns_instructions(monkeypatch, tmp_path, variable, value, becomes):
    machine(monkeypatch, tmp_path, "avx512f avx512_bf16 amx_bf16")
    monkeypatch.setenv(variable, value)
    found, why = precision.best_precision()
    assert found == becomes
    assert (f"={value.upper()} allows" in why) == (becomes == "float32")


def test_best_precision_names_only_the_flag_that_the_cap_allows(monkeypatch, tmp_path):
    machine(monkeypatch, tmp_path, "avx512_bf16 amx_bf16")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert precision.best_precision() == ("mixed_bfloat16", "the CPU has avx512_bf16")


@pytest.mark.parametrize(
    ("flags", "gpus", "named", "expected"),
    [
        ("avx2", (), "mixed_bfloat16", "about 11 times as long"),
        ("avx2 avx512f avx512_vnni", (), "mixed_bfloat16", "about 3 times as long"),
        ("avx2 avx512f avx512_bf16 amx_bf16", (), "mixed_float16", "about 60 times as long"),
        ("avx2", ((7, 5),), "mixed_bfloat16", "compute capability 7.5"),
        ("avx2", ((6, 1),), "mixed_float16", "compute capability 6.1"),
        ("avx2", (), "float32", ""),
        ("avx512_bf16", (), "mixed_bfloat16", ""),
        ("avx2", ((7, 5),), "mixed_float16", ""),
        ("avx2", ((8, 0),), "mixed_bfloat16", ""),
    ],
)
def test_resolve_precision_warns_once_when_the_devices_have_no_instructions(
    monkeypatch, tmp_path, capsys, flags, gpus, named, expected
):
    machine(monkeypatch, tmp_path, flags, gpus)
    precision.resolve_precision(factories.experiment(precision=named))
    printed = capsys.readouterr().out
    assert printed.count("\n") == (1 if expected else 0)
    assert expected in printed
    if expected:
        assert f"--config.train.precision={named}".removeprefix("--") in printed
        assert "--config.train.precision=auto" in printed


@pytest.mark.parametrize(
    ("named", "cap"),
    [
        ("mixed_bfloat16", "AVX2"),
        pytest.param(
            "mixed_float16",
            "AVX512_CORE_BF16",
            marks=pytest.mark.skipif(fer.KERAS == "keras", reason="TensorFlow 2.15 computes float16 without oneDNN"),
        ),
    ],
)
def test_resolve_precision_rejects_precision_when_the_cap_forbids_its_instructions(monkeypatch, tmp_path, named, cap):
    machine(monkeypatch, tmp_path, "avx2 avx512f avx512_bf16 avx512_fp16")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    assert not precision.is_computable(named)
    with pytest.raises(UserError, match=f"precision={named} cannot be computed here: ONEDNN_MAX_CPU_ISA={cap} forbids"):
        precision.resolve_precision(factories.experiment(precision=named))
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert precision.is_computable(named)


def test_precision_default_is_auto_in_the_dataclass_and_every_config():
    assert Train().precision == "auto"
    for path in pathlib.Path(factories.__file__).parents[2].joinpath("configs").glob("*.py"):
        assert runpy.run_path(str(path))["get_config"]().train.precision == "auto", path.name


def test_precision_auto_is_float32_without_cpu_information(monkeypatch, tmp_path):
    machine(monkeypatch, tmp_path)
    monkeypatch.setattr(precision, "CPUINFO", str(tmp_path / "absent"))
    assert precision.best_precision()[0] == "float32"


def test_precision_named_explicitly_stays(monkeypatch, tmp_path):
    machine(monkeypatch, tmp_path, "amx_bf16")
    asked = factories.experiment(precision="mixed_float16")
    assert precision.resolve_precision(asked) is asked


def test_run_records_resolved_precision_and_rejects_another(monkeypatch, tmp_path, synthetic_shards, capsys):
    asked, run = factories.experiment(precision="auto"), RunDir(str(tmp_path / "run"))
    machine(monkeypatch, tmp_path, "amx_bf16")
    here = precision.resolve_precision(asked)
    assert capsys.readouterr().out == (
        "config.train.precision is auto, which becomes mixed_bfloat16 here: the CPU has amx_bf16.\n"
    )
    assert (asked.train.precision, here.train.precision) == ("auto", "mixed_bfloat16")
    run.write_config(here, synthetic_shards)
    check_run_dir(run, run.read_config(), precision.resolve_precision(asked), synthetic_shards)  # the same machine
    machine(monkeypatch, tmp_path, "avx2")
    with pytest.raises(UserError, match=r"another config \(train\.precision: 'mixed_bfloat16' -> 'float32'\)"):
        check_run_dir(run, run.read_config(), precision.resolve_precision(asked), synthetic_shards)


@pytest.mark.parametrize("allowed", [False, True])
def test_allow_tensor_float_32_follows_the_config(allowed):
    precision.allow_tensor_float_32(factories.experiment(tf32=allowed).train)
    assert tf.config.experimental.tensor_float_32_execution_enabled() == allowed


@pytest.mark.parametrize(
    ("flags", "variable", "value", "expected"),
    [
        ("avx2", "", "", False),  # TensorFlow then computes without oneDNN
        ("avx2", "TF_ENABLE_ONEDNN_OPTS", "1", True),
        ("avx2", "TF_ENABLE_ONEDNN_OPTS", "true", True),
        ("avx2 avx_vnni", "", "", True),
        ("avx2 avx_vnni", "TF_ENABLE_ONEDNN_OPTS", "0", False),
        ("avx2 avx_vnni", "DNNL_MAX_CPU_ISA", "AVX", False),
        ("avx2 avx512f avx512_vnni", "", "", False),
        ("avx2 avx512f avx512_vnni", "ONEDNN_MAX_CPU_ISA", "AVX2", True),
        ("avx2 avx512f avx512_vnni", "ONEDNN_MAX_CPU_ISA", "AVX512_CORE", False),
        ("avx", "TF_ENABLE_ONEDNN_OPTS", "1", False),
    ],
)
def test_is_limited_to_avx2_depends_on_flags_and_cap(monkeypatch, tmp_path, flags, variable, value, expected):
    machine(monkeypatch, tmp_path, flags)
    if variable:
        monkeypatch.setenv(variable, value)
    assert precision.is_limited_to_avx2() is expected
