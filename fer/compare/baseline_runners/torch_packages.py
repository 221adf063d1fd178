"""Runs the PyPI packages facial-emotion-recognition and what-the-face-classification with their preprocessing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import ModuleType

import harness
import numpy as np
import torch


def load(package: str) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """Returns the classifier of a package and its batch size."""
    network, prepare = {
        "facial-emotion-recognition": _facial_emotion_recognition,
        "what-the-face-classification": _what_the_face_classification,
    }[package]()
    network.eval()

    def classify(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return torch.softmax(network(prepare(torch.from_numpy(images)[:, None].float() / 255)), dim=1).numpy()

    return classify, sum(parameter.numel() for parameter in network.parameters())


def _facial_emotion_recognition() -> tuple[torch.nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
    """Loads version 0.3.4: input in [-1, 1]; the softmax of its sigmoid outputs gives the probabilities."""
    package, folder = "facial-emotion-recognition", "facial_emotion_recognition"
    network = _module(harness.file_of(package, f"{folder}/networks.py")).NetworkV2(in_c=1, nl=32, out_f=7)
    network.load_state_dict(_weights(harness.file_of(package, f"{folder}/model/model.pkl"))["network"])
    return network, lambda faces: (faces - 0.5) / 0.5


def _what_the_face_classification() -> tuple[torch.nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
    """Loads version 0.0.27 with the default settings of its Image_classifier: input in [0, 1]."""
    package, folder = "what-the-face-classification", "what_the_face_classification"
    network_class = _module(harness.file_of(package, f"{folder}/model.py")).SimpleConvolutionalNetwork
    network = network_class(3, [[1, 28], [28, 56], [56, 112]], [3, 3, 3], [0, 0, 0], 304, 112 * 4 * 4)
    network.load_state_dict(_weights(harness.file_of(package, f"{folder}/active_model.pth")))
    return network, lambda faces: faces


def _weights(path: str) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


def _module(path: str) -> ModuleType:
    """Imports one file of a package without the package, which would import face detectors."""
    spec = importlib.util.spec_from_file_location("network", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    harness.run(load)
