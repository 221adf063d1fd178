"""Numerical precision by device: what `train.precision=auto` becomes, and TensorFloat-32."""

from __future__ import annotations

import copy
import os

import tensorflow as tf

import fer
from fer.config import Experiment, Train
from fer.errors import UserError

CPUINFO = "/proc/cpuinfo"
BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # as Linux names them; on other CPUs bfloat16 is slower than float32
BFLOAT16_GPU, FLOAT16_GPU = (8, 0), (7, 0)  # compute capability from which tensor cores multiply these (Ampere, Volta)

# Flags with any of which TensorFlow computes with oneDNN by default (IsMklEnabled in tensorflow/core/util/port.cc).
ONEDNN_BY_DEFAULT = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}

# Values of ONEDNN_MAX_CPU_ISA, which caps the instructions that oneDNN uses, and the flags of BFLOAT16 that they leave.
CAPPED_BELOW_AVX2 = ("sse41", "avx")
CAPPED_BELOW_BFLOAT16 = (*CAPPED_BELOW_AVX2, "avx2", "avx2_vnni", "avx2_vnni_2", "avx512_core", "avx512_core_vnni")
CAPPED_BELOW_AVX512 = CAPPED_BELOW_BFLOAT16[:-2]
CAPPED_BELOW_AMX = ("avx512_core_bf16", "avx512_core_fp16")

# Precisions that TensorFlow gives to oneDNN: the CPU's flag for it, and the caps with which oneDNN then stops.
# TensorFlow 2.15 computes float16 without oneDNN.
ONEDNN_PRECISIONS: dict[str, tuple[str, tuple[str, ...]]] = {"mixed_bfloat16": ("avx512f", CAPPED_BELOW_AVX512)}
if fer.KERAS == "tf-keras":
    ONEDNN_PRECISIONS["mixed_float16"] = ("avx512_fp16", (*CAPPED_BELOW_BFLOAT16, "avx512_core_bf16"))

# Training time as a multiple of float32's on a CPU without the instructions, measured with compact_s in batches of 32:
# float16 63 times with AVX2 code, bfloat16 11.6 times with AVX2 code and 2.8 times with AVX-512 code that emulates it.
SLOWER_FLOAT16, SLOWER_BFLOAT16, SLOWER_BFLOAT16_AVX512 = 60, 11, 3


def resolve_precision(experiment: Experiment) -> Experiment:
    """Returns the experiment with `auto` replaced by the fastest precision of the devices: what the run records.

    A run that goes on elsewhere is refused where `auto` would be another precision there, instead of changing. A
    precision that is named explicitly is kept; if the devices have no instructions for it, one warning is printed.

    Raises:
      UserError: the named precision cannot be computed here at all.
    """
    if experiment.train.precision != "auto":
        check_computable(experiment.train.precision)
        warning = slow_warning(experiment.train.precision)
        if warning:
            print(warning)
        return experiment
    precision, why = best_precision()
    print(f"config.train.precision is auto, which becomes {precision} here: {why}.")
    resolved = copy.deepcopy(experiment)
    resolved.train.precision = precision
    return resolved


def best_precision() -> tuple[str, str]:
    """Returns the fastest precision of this machine's devices, and why; of several GPUs the oldest decides."""
    if not tf.config.list_physical_devices("GPU"):
        found = sorted(_cpu_bfloat16())
        if found:
            return "mixed_bfloat16", f"the CPU has {' and '.join(found)}"
        return "float32", "there is no GPU, and the CPU has no instructions for bfloat16" + _cap_remark()
    oldest = _oldest_gpu()
    why = f"compute capability {oldest[0]}.{oldest[1]}"
    if oldest >= BFLOAT16_GPU:
        return "mixed_bfloat16", why
    return ("mixed_float16" if oldest >= FLOAT16_GPU else "float32"), why


def slow_warning(precision: str) -> str:
    """Returns a warning if the devices have no instructions for a mixed precision; "" otherwise.

    Args:
      precision: float32, mixed_bfloat16 or mixed_float16.
    """
    if precision == "float32":
        return ""
    short = precision.removeprefix("mixed_")
    if tf.config.list_physical_devices("GPU"):
        oldest, needed = _oldest_gpu(), {"bfloat16": BFLOAT16_GPU, "float16": FLOAT16_GPU}[short]
        if oldest >= needed:
            return ""
        device = f"a GPU of compute capability {oldest[0]}.{oldest[1]}, which has no tensor cores for {short}"
        cost = "expect training to be no faster than float32 and possibly several times slower"
    else:
        if short == "bfloat16" and _cpu_bfloat16():
            return ""
        avx512 = _has_avx512() and _onednn()
        factor = SLOWER_FLOAT16 if short == "float16" else SLOWER_BFLOAT16_AVX512 if avx512 else SLOWER_BFLOAT16
        device = f"a CPU without instructions for {short}{_cap_remark() if short == 'bfloat16' else ''}"
        cost = f"expect training to take about {factor} times as long as in float32"
    return (
        f"Warning: config.train.precision={precision} runs on {device}: {cost}. "
        "Use --config.train.precision=auto, which chooses the fastest."
    )


def check_computable(precision: str) -> None:
    """Checks that TensorFlow can compute in a precision at all.

    On a CPU with AVX-512, TensorFlow gives bfloat16 convolutions to oneDNN, and TensorFlow 2.21 gives it float16 on one
    with AVX512_FP16. oneDNN stops if ONEDNN_MAX_CPU_ISA forbids the instructions ("could not create a primitive
    descriptor").

    Raises:
      UserError: it cannot; the message names the variable.
    """
    if not is_computable(precision):
        slower = SLOWER_FLOAT16 if precision == "mixed_float16" else SLOWER_BFLOAT16
        raise UserError(
            f"config.train.precision={precision} cannot be computed here: ONEDNN_MAX_CPU_ISA={_cap().upper()} forbids "
            f"the instructions that TensorFlow uses for {precision.removeprefix('mixed_')} on this CPU. Unset "
            f"ONEDNN_MAX_CPU_ISA, set TF_ENABLE_ONEDNN_OPTS=0 (about {slower} times slower than float32), or use "
            "--config.train.precision=float32."
        )


def is_computable(precision: str) -> bool:
    """Returns whether TensorFlow can compute convolutions in a precision here; see `check_computable`."""
    if precision not in ONEDNN_PRECISIONS or tf.config.list_physical_devices("GPU") or not _onednn():
        return True
    flag, capped = ONEDNN_PRECISIONS[precision]
    return not (flag in _cpu_flags() and _cap() in capped)


def is_limited_to_avx2() -> bool:
    """Returns whether oneDNN computes on this CPU with AVX2 code, because the CPU or a cap has no AVX-512."""
    return _onednn() and "avx2" in _cpu_flags() and not _has_avx512() and _cap() not in CAPPED_BELOW_AVX2


def allow_tensor_float_32(train: Train) -> None:
    """Turns TensorFloat-32 on or off for this process, as `train.tf32` says; devices without it go on in float32."""
    tf.config.experimental.enable_tensor_float_32_execution(train.tf32)


def _oldest_gpu() -> tuple[int, int]:
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return min(tuple(each.get("compute_capability") or (0, 0)) for each in details)


def _cpu_bfloat16() -> set[str]:
    """Returns the CPU's flags for bfloat16 that oneDNN may use."""
    if not _onednn() or _cap() in CAPPED_BELOW_BFLOAT16:
        return set()
    allowed = {"avx512_bf16"} if _cap() in CAPPED_BELOW_AMX else BFLOAT16
    return allowed & _cpu_flags()


def _has_avx512() -> bool:
    """Returns whether the CPU has AVX-512 and no cap forbids it."""
    return "avx512f" in _cpu_flags() and _cap() not in CAPPED_BELOW_AVX512


def _cap_remark() -> str:
    """Returns why the CPU's bfloat16 instructions are not used, if it has some; "" otherwise."""
    if not BFLOAT16 & _cpu_flags() or _cpu_bfloat16():
        return ""
    return f" that ONEDNN_MAX_CPU_ISA={_cap().upper()} allows" if _onednn() else " that TF_ENABLE_ONEDNN_OPTS=0 allows"


def _cap() -> str:
    """Returns oneDNN's cap on instructions in lower case, as it reads it itself; "" without one."""
    return (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").lower()


def _onednn() -> bool:
    """Returns whether TensorFlow computes with oneDNN, whose kernels are the only fast ones for bfloat16 on CPUs.

    The variable decides, which `fer.log_suppression.import_tensorflow` sets; without it, the processor.
    """
    chosen = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower()
    known = {"0": False, "false": False, "1": True, "true": True}  # TensorFlow ignores other values
    return known.get(chosen, bool(ONEDNN_BY_DEFAULT & _cpu_flags()))


def _cpu_flags() -> set[str]:
    if not os.path.exists(CPUINFO):
        return set()
    with open(CPUINFO) as file:
        return {flag for line in file if line.startswith("flags") for flag in line.partition(":")[2].split()}
