"""Import of the Inception-v3 of the npm package nsfwjs, which was fine-tuned from ImageNet and stored in 8 bits.

The layers up to activation_55 were frozen in the fine-tuning, so they have ImageNet's weights.
"""

from __future__ import annotations

import tensorflow as tf

from fer.models import pretrained
from fer.models.importers import tfjs

PLACES = {"kernel": 0, "beta": 0, "moving_mean": 1, "moving_variance": 2}  # in a layer; it has no gamma


def load(model: tf.keras.Model, path: str) -> None:
    """Loads the weights of model.min.js into Inception-v3.

    Args:
      model: `tf.keras.applications.InceptionV3` without its top, with three channels.
      path: of model.min.js; the files group1-shardNofM.min.js are beside it.

    Raises:
      UserError: a file is missing or damaged, or belongs to another network.
    """
    arrays = {}
    for name, values in tfjs.read(path).items():
        layer, _, kind = name.rpartition("/")
        if kind in PLACES:
            arrays[f"{layer}/{PLACES[kind]}"] = values
    pretrained.set_arrays(model, arrays, path)
