"""Checks that the GPUs do their work, and how fast: python scripts/gpu_check.py --output=runs/gpu_check.json.

Exit code 0: every check passed; 1: one did not, or there is no GPU.
"""

import json

from absl import flags

from fer import cli, files
from fer.benchmark import gpu_check
from fer.config import Model
from fer.errors import UserError

DEVICE = flags.DEFINE_enum("device", "GPU", gpu_check.DEVICES, "CPU rehearses the checks where there is no GPU.")
MODEL = flags.DEFINE_string("model", "compact", "What is trained: a name of scripts/train.py --list_models.")
IMAGE_SIZE = flags.DEFINE_integer("image_size", 0, "Pixels a side that it sees; 0: its default.", lower_bound=0)
BATCH = flags.DEFINE_integer("batch", 256, "Faces a step, a device.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 60, "Steps of each measured rate.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "Writes the JSON to this file too.")


def main() -> None:
    model = Model(name=MODEL.value, image_size=IMAGE_SIZE.value)
    found = gpu_check.run(gpu_check.Settings(DEVICE.value, model, BATCH.value, STEPS.value))
    print(json.dumps(found, indent=2))
    if OUTPUT.value:
        files.write_json(OUTPUT.value, found)
        print(f"wrote {OUTPUT.value}")
    failed = [f"{check['name']} ({check['found']})" for check in found["checks"] if not check["passed"]]
    if failed:
        raise UserError(f"{len(failed)} of {len(found['checks'])} checks failed: {'; '.join(failed)}.")


if __name__ == "__main__":
    cli.run(main)
