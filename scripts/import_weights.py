"""Converts published weights: python scripts/import_weights.py --source=dlib --input=A.dat --data=DIR --output=B.npz.

docs/reproduce.md lists the sources: package, version, file and licence. Train with --config.model.weights=B.npz.
"""

from absl import flags

from fer import cli
from fer.export import published_weights

SOURCE = flags.DEFINE_enum("source", None, list(published_weights.SOURCES), "Published network.")
INPUT = flags.DEFINE_string("input", None, "File of the network, as its package contains it.")
DATA = flags.DEFINE_string(
    "data", None, "Shards; dlib, faceres and mobilefacenet need statistics of images of their train split."
)
OUTPUT = flags.DEFINE_string("output", None, "File to write, with the suffix .npz (yunet: .onnx).")
cli.require("source", "input", "output")


def main() -> None:
    published_weights.convert(SOURCE.value, INPUT.value, DATA.value, OUTPUT.value)


if __name__ == "__main__":
    cli.run(main)
