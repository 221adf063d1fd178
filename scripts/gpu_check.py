"""Checks training on the GPUs and measures its throughput: python scripts/gpu_check.py --output=runs/gpu_check.json.

Prints progress to the standard error and the results as JSON to the standard output. The exit code is 0 if all checks
pass, and 1 if a check fails or there is no GPU.
"""

import glob
import json
import sys

from absl import flags

from fer import cli, config, log_suppression, progress
from fer.config import Model
from fer.errors import NO_GPU, UserError
from fer.io import files

DEVICE = flags.DEFINE_enum("device", "GPU", config.DEVICES, "Device to check; CPU rehearses the checks without a GPU.")
MODEL = flags.DEFINE_string(
    "model",
    None,
    "Model to train: a name that scripts/train.py --list_models prints; by default compact, or compact_s on a CPU.",
)
IMAGE_SIZE = flags.DEFINE_integer("image_size", 0, "Input size in pixels; 0: the model's default.", lower_bound=0)
BATCH = flags.DEFINE_integer("batch", None, "Images per step and device; by default 256, or 8 on a CPU.", lower_bound=1)
STEPS = flags.DEFINE_integer(
    "steps", None, "Steps per measurement of throughput; by default 60, or 6 on a CPU.", lower_bound=1
)
MINUTES = flags.DEFINE_float(
    "minutes",
    0.0,
    "Time for all, of which measurements of four networks and of RandAugment alone take what the checks leave; 0: "
    "throughput by precision and number of devices instead.",
    lower_bound=0.0,
)
DRIVER_FILES = ("/dev/nvidia*", "/dev/kfd", "/dev/dxg")  # on Linux: of NVIDIA, of AMD, and of Windows' subsystem
OUTPUT = flags.DEFINE_string("output", None, "File to write the JSON to, in addition to the standard output.")


def main() -> None:
    is_rehearsal = DEVICE.value == "CPU"  # a CPU is slow in float16
    name, batch, steps = ("compact_s", 8, 6) if is_rehearsal else ("compact", 256, 60)
    model = Model(name=MODEL.value or name, image_size=IMAGE_SIZE.value)
    if OUTPUT.value:
        files.check_writable(OUTPUT.value)
    if not is_rehearsal and sys.platform == "linux" and not any(map(glob.glob, DRIVER_FILES)):
        raise UserError(NO_GPU)  # TensorFlow, which takes seconds to load, would find none
    with progress.print_when_slow("Loading TensorFlow ...", file=sys.stderr):  # standard output has only the JSON
        log_suppression.import_tensorflow(announce=False)
    from fer.benchmark.gpu import gpu_check

    settings = gpu_check.Settings(DEVICE.value, model, BATCH.value or batch, STEPS.value or steps)

    def write(found: dict) -> None:
        if OUTPUT.value:
            files.write_json(OUTPUT.value, found)

    found = gpu_check.run_checks(settings, lambda line: print(line, file=sys.stderr, flush=True), write, MINUTES.value)
    print(json.dumps(found, indent=2))
    write(found)
    if OUTPUT.value:
        print(f"wrote {OUTPUT.value}", file=sys.stderr)
    failed = [f"{check['name']} ({check['found']})" for check in found["checks"] if not check["passed"]]
    if failed:
        raise UserError(f"{len(failed)} of {len(found['checks'])} checks failed: {'; '.join(failed)}.")


if __name__ == "__main__":
    cli.run(main)
