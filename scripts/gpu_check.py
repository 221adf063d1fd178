"""Checks that the GPUs do their work, and how fast: python scripts/gpu_check.py --output=runs/gpu_check.json.

Exit code 0: every check passed; 1: one did not, or there is no GPU.
"""

import json
import sys

from absl import flags

from fer import cli, config, log_suppression, progress
from fer.config import Model
from fer.errors import UserError
from fer.io import files

DEVICE = flags.DEFINE_enum("device", "GPU", config.DEVICES, "CPU rehearses the checks where there is no GPU.")
MODEL = flags.DEFINE_string(
    "model", None, "What is trained: a name of scripts/train.py --list_models; compact by default, compact_s on a CPU."
)
IMAGE_SIZE = flags.DEFINE_integer("image_size", 0, "Pixels a side that it sees; 0: its default.", lower_bound=0)
BATCH = flags.DEFINE_integer("batch", None, "Faces a step, a device; 256 by default, 8 on a CPU.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", None, "Steps of each measured rate; 60 by default, 6 on a CPU.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "Writes the JSON to this file too.")


def main() -> None:
    rehearsal = DEVICE.value == "CPU"  # CPUs are slow in float16
    name, batch, steps = ("compact_s", 8, 6) if rehearsal else ("compact", 256, 60)
    model = Model(name=MODEL.value or name, image_size=IMAGE_SIZE.value)
    if OUTPUT.value:
        files.check_writable(OUTPUT.value)
    with progress.print_when_slow("Loading TensorFlow ...", file=sys.stderr):  # standard output holds the JSON alone
        log_suppression.import_tensorflow(announce=False)
    from fer.benchmark import gpu_check

    settings = gpu_check.Settings(DEVICE.value, model, BATCH.value or batch, STEPS.value or steps)
    found = gpu_check.run(settings, tell=lambda line: print(line, file=sys.stderr))
    print(json.dumps(found, indent=2))
    if OUTPUT.value:
        files.write_json(OUTPUT.value, found)
        print(f"wrote {OUTPUT.value}")
    failed = [f"{check['name']} ({check['found']})" for check in found["checks"] if not check["passed"]]
    if failed:
        raise UserError(f"{len(failed)} of {len(found['checks'])} checks failed: {'; '.join(failed)}.")


if __name__ == "__main__":
    cli.run(main)
