"""Table of models with their parameters and multiply-adds at their default size.

The figures are stored in model_table.json, because computing them builds every network, which takes minutes. After a
change of the registry, run `python -m fer.models.model_table` to write the file; a test compares it with the networks.
"""

from __future__ import annotations

import fnmatch
import importlib.resources
import json
import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from fer import log_suppression
from fer.config import Model
from fer.errors import UserError, suggest
from fer.models.backbones import keras_cv_presets

if TYPE_CHECKING:
    import tensorflow as tf

TABLE = "model_table.json"


class Row(NamedTuple):
    """A network with its head, at its default size."""

    name: str
    parameters: int
    multiply_adds: int  # for one face
    size: int  # pixels a side


def table() -> list[Row]:
    """Returns the stored table, in the order of the registry."""
    text = importlib.resources.files("fer.models").joinpath(TABLE).read_text(encoding="utf-8")
    return [Row(**entry) for entry in json.loads(text)]


def lines(pattern: str = "*") -> list[str]:
    """Returns the lines that `--list_models` prints.

    Args:
      pattern: of names, with * and ? as in a shell.

    Raises:
      UserError: no name matches it.
    """
    rows = [row for row in table() if fnmatch.fnmatchcase(row.name, pattern)]
    presets = fnmatch.filter(keras_cv_presets.names(), pattern)
    if not rows and not presets:
        raise UserError(f"No model's name matches {pattern!r}; --list_models alone prints all of them.")
    found = [f"{row.name:<22}{row.parameters:>14,}{row.multiply_adds / 1e6:>14,.0f} M{row.size:>5} px" for row in rows]
    if found:
        found = [
            "Multiply-adds are of one face at the default size; a multiplication and an addition count as one.",
            f"{'name':<22}{'parameters':>14}{'multiply-adds':>16}{'size':>8}",
            *found,
        ]
    marked = ", ".join(f"{name}*" if _is_pretrained(name) else name for name in presets)
    return found + ([f"By preset, with KerasCV's architecture (*: has ImageNet weights): {marked}"] if presets else [])


def _is_pretrained(preset: str) -> bool:
    """Returns whether a name is that of a preset of KerasCV with ImageNet weights."""
    known = keras_cv_presets.PRESETS.get(preset.removeprefix(keras_cv_presets.PREFIX))
    return preset.startswith(keras_cv_presets.PREFIX) and known is not None and known.pretrained


def check(name: str) -> None:
    """Checks that a model of this name is known, without TensorFlow.

    Raises:
      UserError: it is not; the message names the nearest.
    """
    known = [*(row.name for row in table()), *keras_cv_presets.names()]
    plain = name.removesuffix("_imagenet")  # KerasCV's own names of presets with weights have this suffix
    if plain != name and _is_pretrained(plain):
        raise UserError(f"There is no model {name!r}: choose {plain} with config.model.weights=imagenet.")
    if name not in known:
        raise UserError(f"There is no model {name!r}{suggest(name, known)}.")


def measure(name: str) -> Row:
    """Builds a network and counts what it costs."""
    from fer.models import classifier, registry

    model = classifier.build(Model(name=name), "float32")
    return Row(name, model.count_params(), multiply_adds(model), registry.backbone_spec(name).size)


def multiply_adds(model: tf.keras.Model) -> int:
    """Returns the multiply-adds of the convolutions and dense layers for one face, as counted in publications."""
    import tensorflow as tf

    from fer.labels import SIDE

    face = tf.TensorSpec([1, SIDE, SIDE, 1], tf.uint8)
    graph = tf.function(lambda faces: model(faces, training=False), autograph=False).get_concrete_function(face).graph
    total = 0
    for operation in graph.get_operations():
        if operation.type not in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
            continue
        output, kernel = operation.outputs[0].shape.num_elements(), operation.inputs[1].shape
        # Multiplications for an output value: a kernel's height x width x input channels; a matrix' rows.
        each = {"Conv2D": kernel[:-1], "DepthwiseConv2dNative": kernel[:2], "MatMul": kernel[:1]}[operation.type]
        total += output * each.num_elements()
    return total


def _measure_all() -> Iterator[Row]:
    """Measures every network of the registry, which takes minutes."""
    import tensorflow as tf

    from fer.models import registry

    for name in registry.BACKBONES:
        tf.keras.backend.clear_session()  # otherwise Keras keeps every model that was built
        yield measure(name)


def write() -> str:
    """Writes the table of all networks beside this module, a row a line. Returns its path."""
    path = os.path.join(pathlib.Path(__file__).parent, TABLE)
    rows = []
    for row in _measure_all():
        print(row, flush=True)
        rows.append(json.dumps(row._asdict()))
    pathlib.Path(path).write_text("[\n  " + ",\n  ".join(rows) + "\n]\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    log_suppression.import_tensorflow()
    print(f"wrote {write()}")
