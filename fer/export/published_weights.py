"""Conversion of published networks to weights files: the work of `fer-import-weights`."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from fer import log_suppression
from fer.data import manifest
from fer.errors import UserError
from fer.io import files

FACES = 2048  # maximum number of images, the first ones of the split


class Source(NamedTuple):
    """A published network."""

    published: str  # name of the file as its authors distribute it
    importer: str  # module of `fer.models.importers`
    backbone: str  # name of ours with the same architecture; "" of the face detector
    unfolds: bool = False  # batch normalization is unfolded with statistics of faces
    side: int = 0  # of the faces, in pixels; 0 is the backbone's own


SOURCES = {
    "dlib": Source("dlib_face_recognition_resnet_model_v1.dat", "dlib", "dlib_resnet", True),
    "efficientnet_lite0": Source("efficientnet-lite0-57934424.pth", "efficientnet_lite0", "efficientnet_lite0"),
    "faceres": Source("faceres.json or faceres-deep.json", "faceres", "mobilenet", True, 112),
    "inception_v3": Source("model.min.js", "inception_v3", "inception_v3"),
    "mobilefacenet": Source("MobileFaceNet.tflite", "mobilefacenet_tflite", "mobilefacenet", True),
    "yunet": Source("libfacedetection.so", "yunet", ""),
}


def convert(name: str, path: str, data: str | None, output: str) -> None:
    """Converts the file of a published network to the weights of our backbone, or to the face detector.

    Args:
      name: of `SOURCES`.
      path: of the file.
      data: folder of shards, for networks whose batch normalization is unfolded with images of its train split.
      output: path of the .npz to write; of the face detector an .onnx.

    Raises:
      UserError: the file is missing or belongs to another network, the shards cannot be read, or `output` cannot be
        written. Paths are checked before TensorFlow is loaded.
    """
    source = SOURCES[name]
    suffix = ".npz" if source.backbone else ".onnx"
    if not output.endswith(suffix):
        raise UserError(f"--output={output}: it must end with {suffix}.")
    files.check_writable(output)
    if not files.exists(path):
        raise UserError(f"There is no {path}: --input must be the path of {source.published}.")
    if bool(data) != source.unfolds:
        needs = "needs --data, a directory of shards" if source.unfolds else "takes no --data"
        raise UserError(f"--source={name} {needs}.")
    if data:
        manifest.check_manifest(data)
    if source.backbone:
        log_suppression.import_tensorflow()
    importer = importlib.import_module(f"fer.models.importers.{source.importer}")
    if not source.backbone:
        importer.convert(path, output)
        print(f"wrote {output}")
        return
    from fer.data import example_codec
    from fer.models import registry, weights

    chosen = registry.backbone_spec(source.backbone)
    model = chosen.build(source.side or chosen.size, chosen.channels)
    if data:
        faces = example_codec.read_split(manifest.read_manifest(data), "train").images[:FACES]
        importer.load(model, path, faces)
    else:
        importer.load(model, path)
    weights.save(model.weights, output)
    statistics = f", statistics of {len(faces):,} images" if data else ""
    print(f"wrote {output}: {model.count_params():,} weights{statistics}")
