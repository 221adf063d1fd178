"""The photo that the tests of the page show it: two drawn faces on a grey wall."""

from __future__ import annotations

import io

from PIL import Image

from fer.synthetic import synthetic

PLACES = [(60, 80, 192), (400, 150, 144)]  # left, top, side


def photo() -> Image.Image:
    wall = Image.new("RGB", (640, 400), (200, 205, 210))
    for face, (left, top, side) in zip(synthetic.generate_faces(2, seed=0)[0], PLACES):
        wall.paste(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC), (left, top))
    return wall


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
