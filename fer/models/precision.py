"""What a device computes fast in: what `train.precision=auto` becomes, and TensorFloat-32."""

from __future__ import annotations

import copy
import os

import tensorflow as tf

from fer.config import Experiment, Train

CPUINFO = "/proc/cpuinfo"
BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # as Linux names them; on other CPUs bfloat16 is slower than float32
BFLOAT16_GPU, FLOAT16_GPU = (8, 0), (7, 0)  # compute capability from which tensor cores multiply these (Ampere, Volta)


def settled(experiment: Experiment) -> Experiment:
    """The experiment with `auto` replaced by what the devices here are fast in: that is what a run records.

    So a run that goes on elsewhere is refused where it would be another precision there, instead of changing.
    """
    if experiment.train.precision != "auto":
        return experiment
    precision, why = fastest()
    print(f"config.train.precision is auto, which becomes {precision} here: {why}.")
    settled_one = copy.deepcopy(experiment)
    settled_one.train.precision = precision
    return settled_one


def fastest() -> tuple[str, str]:
    """The precision that this machine's devices are fast in, and why; of several GPUs the oldest decides."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        found = sorted(BFLOAT16 & _cpu_flags())
        if found:
            return "mixed_bfloat16", f"the CPU has {' and '.join(found)}"
        return "float32", "there is no GPU, and the CPU has no instructions for bfloat16"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    oldest = min(tuple(each.get("compute_capability") or (0, 0)) for each in details)
    why = f"compute capability {oldest[0]}.{oldest[1]}"
    if oldest >= BFLOAT16_GPU:
        return "mixed_bfloat16", why
    return ("mixed_float16" if oldest >= FLOAT16_GPU else "float32"), why


def allow_tensor_float_32(train: Train) -> None:
    """Turns TensorFloat-32 on or off for this process, as `train.tf32` says; devices without it go on in float32."""
    tf.config.experimental.enable_tensor_float_32_execution(train.tf32)


def _cpu_flags() -> set[str]:
    if not os.path.exists(CPUINFO):
        return set()
    with open(CPUINFO) as file:
        return {flag for line in file if line.startswith("flags") for flag in line.partition(":")[2].split()}
