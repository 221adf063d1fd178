"""Classifies a picture of a face: python example_onnx.py model.onnx face.png."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

model, picture = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
face = np.asarray(Image.open(picture).convert("L").resize((48, 48), Image.Resampling.BOX))
probabilities = session.run(["probabilities"], {"faces": face[np.newaxis, ..., np.newaxis]})[0][0]
for name, probability in zip(classes, probabilities):
    print(f"{name}: {probability:.4f}")
