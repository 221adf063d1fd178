"""Conversion of published networks to weights files: the work of `fer-import-dlib` and `fer-import-mobilefacenet`."""

from __future__ import annotations

from fer import log_suppression
from fer.data import manifest
from fer.errors import UserError
from fer.io import files

FACES = 2048  # maximum number of images, the first ones of the split


def convert(network: str, published: str, path: str, data: str, output: str) -> None:
    """Converts the file of a published network to the weights of our backbone of the same architecture.

    Args:
      network: name of the backbone, "dlib_resnet" or "mobilefacenet".
      published: name of the file as its authors distribute it, for the error message.
      path: of the file.
      data: folder of shards; batch normalization statistics are computed on images of its train split.
      output: path of the .npz to write.

    Raises:
      UserError: the file is missing or belongs to another network, the shards cannot be read, or `output` cannot be
        written. Paths are checked before TensorFlow is loaded.
    """
    if not output.endswith(".npz"):
        raise UserError(f"--output={output}: it must end with .npz.")
    files.check_writable(output)
    if not files.exists(path):
        raise UserError(f"There is no {path}: --input must be the path of {published}.")
    manifest.check_manifest(data)
    log_suppression.import_tensorflow()
    from fer.data import example_codec
    from fer.models import registry, weights
    from fer.models.importers import dlib, mobilefacenet_tflite

    faces = example_codec.read_split(manifest.read_manifest(data), "train").images[:FACES]
    chosen = registry.backbone_spec(network)
    model = chosen.build(chosen.size, chosen.channels)
    {"dlib_resnet": dlib.load, "mobilefacenet": mobilefacenet_tflite.load}[network](model, path, faces)
    weights.save(model.weights, output)
    print(f"wrote {output}: {model.count_params():,} weights, statistics of {len(faces):,} images")
