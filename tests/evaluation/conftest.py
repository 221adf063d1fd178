"""What several tests of evaluation share."""

import io

import pytest
from PIL import Image

from fer.evaluation import comparison_plot, gradcam_plot, plots, robustness


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
