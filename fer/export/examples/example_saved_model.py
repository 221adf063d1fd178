"""Classifies a picture of a face: python example_saved_model.py saved_model face.png."""

import sys

import numpy as np
import tensorflow as tf
from PIL import Image

model, picture = sys.argv[1:]
signatures = tf.saved_model.load(model).signatures
classes = [name.decode() for name in signatures["classes"]()["classes"].numpy()]
face = np.asarray(Image.open(picture).convert("L").resize((48, 48), Image.Resampling.BOX))
probabilities = signatures["serving_default"](faces=face[np.newaxis, ..., np.newaxis])["probabilities"][0]
for name, probability in zip(classes, probabilities):
    print(f"{name}: {probability:.4f}")
