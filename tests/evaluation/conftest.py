"""What several tests of evaluation share."""

import io
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from fer.evaluation import (
    comparison_plot,
    export,
    export_comparison,
    export_json,
    gradcam_plot,
    inference,
    plots,
    robustness,
    run,
)
from fer.models import weights
from tests.evaluation import made
from tests.shared import shared_folder

FACES = 30  # of the shards that exports are compared on


@pytest.fixture
def figures(monkeypatch) -> list:
    """The figures that are drawn, in order. They are not rendered, which is most of what a picture costs."""
    drawn, file = [], io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")

    def png(figure) -> bytes:
        drawn.append(figure)
        return file.getvalue()

    for module in (comparison_plot, gradcam_plot, plots, robustness):
        monkeypatch.setattr(module, "png", png)
    return drawn


@pytest.fixture(scope="session")
def export_folder(tmp_path_factory) -> pathlib.Path:
    """Two runs, shards that the first classifies rightly but for every sixth face, and its exports in all formats.

    Read only.
    """
    return shared_folder(tmp_path_factory, "exports", _make_exports)


def _make_exports(folder: pathlib.Path) -> None:
    made.run(folder / "run", seed=3)
    _separate_classes(folder / "run")
    made.run(folder / "other", seed=4)
    images = made.images(FACES)
    said = inference.predict([run.open_run(str(folder / "run")).model], images).probabilities.argmax(axis=1)
    made.shards(folder / "faces", {"validation": (images, (said + (np.arange(FACES) % 6 == 0)) % 7)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_comparison, "LONGEST", 0.0)  # the times themselves are not looked at
        for kind in ("onnx", "tflite", "saved_model"):
            export.export(export.Request(str(folder / "run"), kind, str(folder / "exports"), str(folder / "faces")))


def _separate_classes(folder: pathlib.Path) -> None:
    """Gives the run's last layer weights so large that its classes differ: rounding then changes few predictions."""
    path = next((folder / "checkpoints").glob("best-*.npz"))
    arrays = weights.read(str(path))
    kernel = max((name for name in arrays if arrays[name].ndim == 2), key=int)
    arrays[kernel] *= 100
    np.savez(path, **arrays)
    best = json.loads((folder / "best.json").read_text())
    best["sha256"] = export_json.size_and_sha256(str(path))[1]
    (folder / "best.json").write_text(json.dumps(best))
