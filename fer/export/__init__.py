"""Exports classifiers as SavedModel, TFLite, ONNX or a bundled network."""
