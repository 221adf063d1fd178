"""Pretrained weights for a classifier's backbone: of ImageNet through Keras' cache, or from a file.

The weights are loaded into the network as published, with three channels, and copied from there into ours layer by
layer. Files are read as arrays; nothing in them is unpickled or executed.
"""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from fer import run_dir, storage
from fer.config import Model
from fer.errors import UserError, join_names
from fer.io import decompression_limits, files, npz, temp_files
from fer.labels import CLASSES
from fer.models import heads, registry, weights
from fer.models.classifier import channel_mixing, get_backbone

layers = tf.keras.layers

ARCHIVE_MEMBER = "model.weights.h5"  # member of a .keras archive


def load(model: tf.keras.Model, config: Model, classes: Sequence[str] = CLASSES) -> None:
    """Loads the weights that `config.weights` names into a classifier; "none" changes nothing.

    A file holds the backbone's weights: an .npz with arrays in the order of Keras' `get_weights`, or with keys
    "layer/index", where keys of other layers, such as an old head, are ignored; or an .h5 or .keras file of Keras. An
    .npz that `fer.models.weights.save` wrote holds the head too. It is loaded completely, or without its head, which is
    printed, if the file is of a run with other classes.

    Args:
      model: classifier of `fer.models.classifier.build`.
      config: its configuration.
      classes: of the model, in label order; by default those of FER-2013.

    Raises:
      UserError: the weights are missing, damaged, or of another architecture (the message names the layer).
    """
    if config.weights == "none":
        return
    chosen = registry.backbone_spec(config.name)
    network = get_backbone(model)
    side = network.input_shape[1]
    if config.weights == "imagenet":
        donor = _load_imagenet(config.name, chosen, side)
    else:
        arrays = weights.read(config.weights) if config.weights.endswith(".npz") else None
        if arrays and _load_classifier(model, list(arrays.values()), config.weights, classes):
            return
        donor = chosen.build(side, chosen.channels)
        if arrays is None:
            _load_keras(donor, config.weights)
        else:
            set_arrays(donor, arrays, config.weights)
    copy_weights(donor, network, channel_mixing(config))


def without_head(model: tf.keras.Model, arrays: Sequence[np.ndarray]) -> list[np.ndarray | None]:
    """Returns the weights of a classifier, in the order of `model.weights`, with None for those of its heads."""
    names = {id(weight): layer.name for layer in model.layers for weight in layer.weights}
    is_head = [names[id(weight)].endswith(heads.LOGITS) for weight in model.weights]
    return [None if head else array for head, array in zip(is_head, arrays)]


def set_weights(model: tf.keras.Model, arrays: Sequence[np.ndarray | None]) -> None:
    """Sets the weights of a classifier in the order of `model.weights`; None keeps a weight."""
    model.set_weights([old if new is None else new for old, new in zip(model.get_weights(), arrays)])


def new_head_message(source: str, theirs: Sequence[str], ours: Sequence[str]) -> str:
    """Returns the line that says why the head of a source of weights is not loaded."""
    return f"The head is new: {source} has the classes {join_names(theirs)}, and the data have {join_names(ours)}."


def _load_classifier(model: tf.keras.Model, arrays: Sequence[np.ndarray], path: str, classes: Sequence[str]) -> bool:
    """Loads the weights of a whole classifier, without its head if it has other classes.

    Returns:
      False if the arrays are not those of this architecture with any number of classes.
    """
    body = without_head(model, arrays)
    if len(arrays) != len(model.weights) or any(
        array is not None and array.shape != tuple(weight.shape) for weight, array in zip(model.weights, body)
    ):
        return False
    theirs = run_dir.find_classes(path)
    fits = all(array.shape == tuple(weight.shape) for weight, array in zip(model.weights, arrays))
    if fits and theirs in (None, tuple(classes)):
        set_weights(model, arrays)
        return True
    if theirs is None:
        print(f"The head is new: {path} has another number of classes than the data, which have {len(classes)}.")
    else:
        print(new_head_message(path, theirs, classes))
    set_weights(model, body)
    return True


def copy_weights(donor: tf.keras.Model, network: tf.keras.Model, mixing: np.ndarray | None) -> None:
    """Copies the weights of a published network into our version of it (`fer.models.classifier.build_backbone`).

    Args:
      donor: the network as published.
      network: ours, which may be truncated and have fewer input channels.
      mixing: [3, channels], or None for the same channels: channel c of the donor's input is the product of row c
        with our channels, so that the stem's kernels are summed.
    """
    theirs = [layer for layer in donor.layers if layer.weights and not isinstance(layer, layers.Normalization)]
    for place, (ours, source) in enumerate(zip((layer for layer in network.layers if layer.weights), theirs)):
        arrays = source.get_weights()
        if place == 0 and mixing is not None:
            arrays[0] = np.einsum("hwio,ic->hwco", arrays[0], mixing)
        if isinstance(ours, layers.DepthwiseConv2D) and not isinstance(source, layers.DepthwiseConv2D):
            arrays[0] = arrays[0].transpose(0, 1, 3, 2)  # from a grouped convolution: see fer.models.layer_surgery
        ours.set_weights(arrays)


def _load_imagenet(name: str, chosen: registry.Backbone, side: int) -> tf.keras.Model:
    if chosen.imagenet is None:
        raise UserError(
            f"config.model.weights is 'imagenet', which are not published for {name} in Keras; it must be none or a "
            "file."
        )
    try:
        return chosen.imagenet(side)
    except Exception as error:  # Keras raises no more specific exception
        failed = re.match(r"URL fetch failure on\s*(\S+?):? ", f"{error} ")
        if not failed:
            raise
        url = failed[1]
        place = os.path.join(os.path.expanduser("~"), ".keras", "models", url.rpartition("/")[2])
        raise UserError(
            f"The ImageNet weights of {name} cannot be fetched ({files.error_message(error)}): fetch {url} elsewhere "
            f"and put it at {place}."
        ) from error


def set_arrays(donor: tf.keras.Model, arrays: Mapping[str, np.ndarray], path: str) -> None:
    """Sets weights from arrays with keys "layer/index", or in the order of `donor.get_weights()`.

    Arrays with keys need none for layers of the type Normalization, whose values are not used.
    """
    if all("/" in key for key in arrays):
        used = [layer for layer in donor.layers if not isinstance(layer, layers.Normalization)]
        keys = [f"{layer.name}/{index}" for layer in used for index in range(len(layer.weights))]
        found, wanted = _find_arrays(keys, arrays, path, donor.name), [w for layer in used for w in layer.weights]
    else:
        found, wanted = list(arrays.values()), donor.weights
    weights.check_shapes(wanted, found, path, donor.name)
    for weight, array in zip(wanted, found):
        weight.assign(array.astype(weight.dtype.as_numpy_dtype))


def _find_arrays(
    keys: Sequence[str], arrays: Mapping[str, np.ndarray], path: str, architecture: str
) -> list[np.ndarray]:
    """Returns the arrays with these keys "layer/index".

    Keras numbers unnamed layers consecutively in a process: conv2d, conv2d_1 or conv2d_94, conv2d_95. If keys are
    missing, a family of layers is matched by order, provided that the file has as many layers of it.

    Raises:
      UserError: a key is missing; the message names it.
    """
    layer_of = {} if all(key in arrays for key in keys) else _match_by_order(keys, arrays)
    parts = [key.rpartition("/")[::2] for key in keys]  # layer, index
    names = {key: f"{layer_of.get(layer, layer)}/{index}" for key, (layer, index) in zip(keys, parts)}
    missing = [key for key in keys if names[key] not in arrays]
    if missing:
        raise UserError(f"{path} holds no {missing[0]}, which {architecture} needs: it is another architecture's.")
    return [arrays[names[key]] for key in keys]


def _split_number(layer: str) -> tuple[str, int]:
    """Returns the family and the number of a layer: conv2d and 94 for conv2d_94, conv2d and 0 for conv2d."""
    family, separator, number = layer.rpartition("_")
    return (family, int(number)) if separator and re.fullmatch("[0-9]+", number) else (layer, 0)


def _group_layers(keys: Iterable[str]) -> dict[str, list[str]]:
    """Groups the layers in keys "layer/index" by family, in the order of their numbers."""
    families: dict[str, list[str]] = {}
    for layer in sorted({key.rpartition("/")[0] for key in keys}, key=lambda layer: _split_number(layer)[1]):
        families.setdefault(_split_number(layer)[0], []).append(layer)
    return families


def _match_by_order(keys: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Maps the layers in keys "layer/index" to those of others in the same place of a family of equal size."""
    theirs = _group_layers(others)
    return {
        layer: other
        for family, own in _group_layers(keys).items()
        if len(theirs.get(family, ())) == len(own)
        for layer, other in zip(own, theirs[family])
    }


def _load_keras(donor: tf.keras.Model, path: str) -> None:
    """Loads a file of Keras. Of a .keras archive only the arrays are read, not the description of the model."""
    if not files.exists(path):
        raise UserError(f"There is no weights file {path}.")
    files.check_regular(path)
    from fer.io import hdf5_check

    try:
        with _local_hdf5(path) as file:
            hdf5_check.check(file)
            donor.load_weights(file)
        weights.check_finite({weight.name: weight.numpy() for weight in donor.weights}, path)
    except (*npz.DAMAGE_ERRORS, tf.errors.OpError) as error:
        raise UserError(f"{path} does not hold the weights of {donor.name}: {files.error_message(error)}.") from error


@contextlib.contextmanager
def _local_hdf5(path: str) -> Iterator[str]:
    """Yields a local HDF5 file: a copy of an object in a store, or the member of a .keras archive."""
    with contextlib.ExitStack() as stack:
        if storage.is_remote(path):
            copy = os.path.join(stack.enter_context(temp_files.folder("weights")), os.path.basename(path))
            files.copy(path, copy)
            path = copy
        if path.endswith(".keras") and zipfile.is_zipfile(path):
            path = _extract(path, stack.enter_context(temp_files.folder("weights")))
        yield path


def _extract(path: str, folder: str) -> str:
    """Extracts the weights of a .keras archive into a folder; returns the path."""
    budget = decompression_limits.Budget(os.path.getsize(path))
    found = os.path.join(folder, ARCHIVE_MEMBER)
    with zipfile.ZipFile(path) as archive, open(found, "wb") as file:
        budget.take(archive.getinfo(ARCHIVE_MEMBER).file_size)
        file.write(archive.read(ARCHIVE_MEMBER))
    return found
