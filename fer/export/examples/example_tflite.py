"""Classifies a picture of a face: python example_tflite.py float32.tflite face.png."""

import sys
import zipfile

import numpy as np
import tensorflow as tf  # or only its interpreter: from ai_edge_litert.interpreter import Interpreter
from PIL import Image

model, picture = sys.argv[1:]
classes = zipfile.ZipFile(model).read("labels.txt").decode().splitlines()
face = np.asarray(Image.open(picture).convert("L").resize((48, 48), Image.Resampling.BOX))
classify = tf.lite.Interpreter(model).get_signature_runner("serving_default")
probabilities = classify(faces=face[np.newaxis, ..., np.newaxis])["probabilities"][0]
for name, probability in zip(classes, probabilities):
    print(f"{name}: {probability:.4f}")
