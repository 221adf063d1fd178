"""Photo for tests: two synthetic faces on a grey background."""

from __future__ import annotations

import io

from PIL import Image

from fer.synthetic import synthetic

PLACES = [(60, 80, 192), (400, 150, 144)]  # left, top, side


def make_photo() -> Image.Image:
    """Returns an RGB photo of 640x400 pixels with the faces at `PLACES`."""
    wall = Image.new("RGB", (640, 400), (200, 205, 210))
    for face, (left, top, side) in zip(synthetic.generate_faces(2, seed=0)[0], PLACES):
        wall.paste(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC), (left, top))
    return wall


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    """Encodes an image as a file of a format of Pillow."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
