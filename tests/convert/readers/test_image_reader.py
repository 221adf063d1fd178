"""Image files of every format become the same upright grey face."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fer.config import FITS
from fer.convert.readers import image_reader
from fer.convert.readers.image_reader import PictureError
from tests.convert import input_factories

FACE = input_factories.noise(1)[0].reshape(48, 48)
# Without symmetry, and with little loss in a JPEG.
SMOOTH = np.add.outer(np.arange(48), 3 * np.arange(48)).astype(np.uint8) + 20
# Storage of an upright face in the file, by EXIF orientation.
STORED = {
    1: lambda face: face,
    2: np.fliplr,
    3: lambda face: np.rot90(face, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda face: np.rot90(face, 1),
    7: lambda face: np.rot90(face, 2).T,
    8: lambda face: np.rot90(face, -1),
}


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def encode_png(pixels: np.ndarray) -> bytes:
    return encode(Image.fromarray(pixels))


def make_exif(orientation) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_decode_picture_applies_exif_orientation(orientation, kind):
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](SMOOTH[:, :40])))
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    image, altered = image_reader.decode_picture(encode(stored, kind, exif=make_exif(orientation), **options), "L")
    assert image.size == (40, 48)
    assert np.abs(np.asarray(image).astype(int) - SMOOTH[:, :40]).mean() < 2
    assert ("turned" in altered) == (orientation != 1)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_decode_picture_ignores_unknown_exif_orientation(orientation):
    image, altered = image_reader.decode_picture(encode(Image.fromarray(FACE), exif=make_exif(orientation)), "L")
    np.testing.assert_array_equal(np.asarray(image), FACE)
    assert altered == ()


def test_decode_picture_ignores_damaged_exif():
    for damaged in (b"II*\x00", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"junk"):
        image, altered = image_reader.decode_picture(encode(Image.fromarray(FACE), exif=damaged), "L")
        np.testing.assert_array_equal(np.asarray(image), FACE)
        assert altered == ()


KINDS = ["PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG"]


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", KINDS)
def test_read_face_reads_every_format(kind, mode):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    content = encode(Image.fromarray(SMOOTH).convert(mode), kind, **options)
    assert image_reader.is_picture("x", content[:64])
    face, altered = image_reader.read_face(content)
    assert (face.dtype, face.shape) == (np.uint8, (48, 48))
    assert np.abs(face.astype(int) - SMOOTH).max() <= (3 if kind in ("JPEG", "WEBP") else 1)
    assert set(altered) <= {"recoloured"}


@pytest.mark.parametrize(
    "content", [b"P5 2 1 255\n\0\xff", b"P5\n# a comment\n2 1\n255\n\0\xff", b"P2\n2 1\n255\n0 255\n"]
)
def test_read_face_reads_pgm_with_any_header(content):
    assert image_reader.is_picture("x.bin", content)
    face, _ = image_reader.read_face(content)
    assert sorted(np.unique(face)) == [0, 255]


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("1.jpg", b"\xff\xd8\xff\xe0", True),
        ("1", b"\x89PNG\r\n\x1a\n", True),
        ("1.PNG", b"junk", True),
        ("1.bmp", b"BM", True),
        ("1.webp", b"RIFF", True),
        ("1.pgm", b"", True),
        ("readme.txt", b"junk", False),
        ("notes", b"BMW and Audi drive by", False),
        ("notes", b"P5 is a programme", False),
        ("1.heic", b"\0\0\0\x18ftypheic", False),
        ("1.avif", b"\0\0\0\x18ftypavif", False),
        ("1.CR2", b"II*\0\x10\0\0\0CR\2\0", False),
        ("1.nef", b"MM\0*", False),
        ("1.jp2", b"\0\0\0\x0cjP  \r\n\x87\n", False),
    ],
)
def test_is_picture_depends_on_content_or_name(name, head, expected):
    assert image_reader.is_picture(name, head) is expected


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_read_face_uses_first_frame(kind):
    frames = [Image.fromarray(pixels) for pixels in (SMOOTH, SMOOTH[::-1], SMOOTH[:, ::-1])]
    options = {"lossless": True} if kind == "WEBP" else {}
    face, altered = image_reader.read_face(encode(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert np.abs(face.astype(int) - SMOOTH).max() <= 3
    assert "first_frame" in altered


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_composited_on_background(mode):
    alpha = np.full((48, 48), 255, np.uint8)
    alpha[:24], alpha[24] = 0, 128
    image = Image.fromarray(np.full((48, 48), 255, np.uint8)).convert("LA" if mode == "LA" else "RGBA")
    image.putalpha(Image.fromarray(alpha))
    if mode == "P":
        image = Image.fromarray((alpha > 128).astype(np.uint8))
        image.putpalette([0, 0, 0, 255, 255, 255])
    content = encode(image, **({"transparency": 0} if mode == "P" else {}))
    face, altered = image_reader.read_face(content)
    assert (face[:24] == image_reader.BACKGROUND).all()
    assert (face[25:] == 255).all()
    assert mode == "P" or (np.abs(face[24].astype(int) - 192) <= 1).all()
    assert {"composited", "recoloured"} <= set(altered)
    colour = np.asarray(image_reader.decode_picture(content, "RGB").image)
    np.testing.assert_array_equal(colour[..., 0], face)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_read_face_converts_opaque_images_to_same_grey(mode):
    face, altered = image_reader.read_face(input_factories.encode_image(FACE.ravel(), mode=mode))
    np.testing.assert_array_equal(face, FACE)
    assert altered == ("recoloured",)


def test_read_face_composites_grey_image_with_transparent_level():
    pixels = np.where(np.arange(48) < 24, 7, 200).astype(np.uint8)[None].repeat(48, 0)
    face, altered = image_reader.read_face(encode(Image.fromarray(pixels), transparency=7))
    assert face[0, [0, 47]].tolist() == [image_reader.BACKGROUND, 200]
    assert "composited" in altered


DEEP = {
    "16 bits": FACE.astype(np.uint16) << 8,
    "12 bits": FACE.astype(np.uint16) << 4,
    "8 bits": FACE.astype(np.uint16),
    "an offset": FACE.astype(np.uint16) + 20_000,
    "every bit": FACE.astype(np.uint16) * 257,
    "32 bits": FACE.astype(np.int32) * 65_793,
    "fractions": (FACE / 255).astype(np.float32),
}


@pytest.mark.parametrize("kind", DEEP)
def test_read_face_scales_deep_grey_by_its_range(kind):
    file = "PNG" if DEEP[kind].dtype == np.uint16 else "TIFF"
    face, altered = image_reader.read_face(encode(Image.fromarray(DEEP[kind]), file))
    np.testing.assert_array_equal(face, FACE)
    assert "rescaled" in altered


def test_read_face_keeps_upper_8_of_16_bits_in_full_use():
    face, altered = image_reader.read_face(encode_png((FACE.astype(np.uint16) << 8) + 77))
    np.testing.assert_array_equal(face, FACE)
    assert {"rescaled", "recoloured"} <= set(altered)


def test_read_face_rejects_values_that_are_not_finite():
    values = np.where(np.arange(48) < 1, np.nan, FACE).astype(np.float32)
    with pytest.raises(PictureError, match="not finite"):
        image_reader.read_face(encode(Image.fromarray(values), "TIFF"))


def test_read_face_keeps_constant_16_bit_grey_constant():
    face, _ = image_reader.read_face(encode_png(np.full((48, 48), 40_000, np.uint16)))
    assert np.unique(face).tolist() == [40_000 // 256]


def make_png(width: int, height: int, depth: int, colour: int, lines: bytes) -> bytes:
    """Returns a PNG with any header, including those that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [b"IHDR" + header, b"IDAT" + zlib.compress(lines), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts
    )


def make_deep_png(values: np.ndarray) -> bytes:
    """Returns a PNG with 16 bits per channel; values: uint16 [height, width, 3]."""
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    return make_png(values.shape[1], values.shape[0], 16, 2, lines)


def test_read_face_keeps_upper_8_of_16_bit_colour_or_rejects():
    colours = FACE[..., None].repeat(3, -1).astype(np.uint16)
    face, _ = image_reader.read_face(make_deep_png(colours << 8))
    np.testing.assert_array_equal(face, FACE)
    with pytest.raises(PictureError, match="16 bits a colour and uses the lower 14 at most: save it with 8 bits"):
        image_reader.read_face(make_deep_png(colours << 4))


def test_read_face_converts_colour_to_bt_601_luma():
    colours = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    face, _ = image_reader.read_face(encode_png(colours))
    assert np.abs(face - colours @ [0.299, 0.587, 0.114]).max() < 1


def test_read_face_averages_larger_image():
    face, altered = image_reader.read_face(input_factories.encode_image(FACE.ravel(), size=96))
    np.testing.assert_array_equal(face, FACE)
    assert altered == ("resized",)


@pytest.mark.parametrize(("fit", "altered"), [("stretch", "squashed"), ("crop", "cropped"), ("pad", "padded")])
@pytest.mark.parametrize("upright", [True, False])
def test_fit_makes_image_square(fit, altered, upright):
    wide = np.zeros((48, 96), np.uint8)
    wide[:, 24:72] = FACE
    face, found = image_reader.read_face(encode_png(wide if upright else np.ascontiguousarray(wide.T)), fit)
    face = face if upright else face.T
    assert found == ("resized", altered)
    if fit == "crop":
        np.testing.assert_array_equal(face, FACE)
    elif fit == "stretch":
        assert (face[:, :12] == 0).all()
        assert (face[:, 36:] == 0).all()
    else:
        assert (face[[0, 11, 36, 47]] == image_reader.BACKGROUND).all()
        assert (face[12:36, :12] == 0).all()
    square, found = image_reader.read_face(encode_png(FACE), fit)
    np.testing.assert_array_equal(square, FACE)
    assert found == ()


@pytest.mark.parametrize("fit", FITS)
def test_fit_accepts_line_of_pixels(fit):
    face, _ = image_reader.read_face(encode_png(np.full((1, 5000), 9, np.uint8)), fit)
    assert face.shape == (48, 48)
    assert 9 in face


def test_fit_applies_after_exif_orientation():
    wide = np.zeros((48, 96), np.uint8)
    wide[:, 24:72] = FACE
    content = encode(Image.fromarray(np.rot90(wide, 1).copy()), exif=make_exif(6))
    face, altered = image_reader.read_face(content, "crop")
    np.testing.assert_array_equal(face, FACE)
    assert {"turned", "cropped"} <= set(altered)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is damaged or no picture; JPEG, PNG, WebP, BMP, GIF, TIFF and PPM/PGM are read"),
        (b"\xff\xd8\xff", "it is damaged or no picture"),
        (b"GIF89a", "it is damaged or no picture"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "it is a HEIC picture"),
        (b"\0\0\0\x18ftypavif" + bytes(60), "it is an AVIF picture"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60), "it is a JPEG 2000 picture"),
        (encode_png(FACE)[:300], "truncated"),
    ],
)
def test_decode_picture_error_names_reason(content, reason):
    with pytest.raises(PictureError, match=reason) as caught:
        image_reader.decode_picture(content, "L")
    assert "0x" not in str(caught.value)  # a memory address, which differs each time


@pytest.mark.parametrize("side", [9_000, 20_000])
def test_decode_picture_rejects_decompression_bomb_unread(side, monkeypatch):
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", None)
    for function in (image_reader.read_face, image_reader.read_size):
        with pytest.raises(PictureError, match="pixels"):
            function(make_png(side, side, 8, 0, b""))


def test_read_size_reads_header_without_decoding(monkeypatch):
    content = encode_png(FACE[:, :40])
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", None)
    assert image_reader.read_size(content) == (40, 48)
    with pytest.raises(PictureError, match="no picture"):
        image_reader.read_size(b"GIF89a")


def make_damaged_tiff(tag: int | None = None, value: int = 0) -> bytes:
    """Returns a compressed TIFF with a changed tag or, without a tag, with changed pixel bytes."""
    content = bytearray(encode(Image.effect_noise((48, 48), 80).convert("RGB"), "TIFF", compression="tiff_lzw"))
    if tag is None:
        content[40:200] = b"\xff" * 160
        return bytes(content)
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, entry) == (tag,):
            struct.pack_into("<I", content, entry + 8, value)
            return bytes(content)
    raise AssertionError(f"there is no tag {tag}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (make_damaged_tiff(), "its pixels are damaged"),
        (make_damaged_tiff(277, 85), "it is damaged or no picture"),  # samples per pixel
        (make_damaged_tiff(279, 3), "its pixels are damaged"),  # bytes of the strip
        (make_damaged_tiff(259, 5)[:60], "it is damaged or no picture"),
    ],
)
def test_decode_picture_prints_nothing_of_a_damaged_tiff(capfd, caplog, content, reason):
    with pytest.raises(PictureError, match=reason):
        image_reader.decode_picture(content, "L")
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])


def make_deep_tiff(values: np.ndarray, photometric: int, sample_format: int) -> bytes:
    """Returns a TIFF of grey values.

    Args:
      values: [height, width], little endian.
      photometric: 0 if the least value is white, 1 if it is black.
      sample_format: 1 unsigned, 2 signed, 3 floating point.
    """
    height, width = values.shape
    content = values.tobytes()
    tags = [(256, width), (257, height), (258, values.itemsize * 8), (259, 1), (262, photometric), (273, 8), (277, 1)]
    tags += [(278, height), (279, len(content)), (339, sample_format)]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + struct.pack("<H", len(tags)) + entries + bytes(4)


RAMP = np.arange(48 * 48).reshape(48, 48) / (48 * 48 - 1)


@pytest.mark.parametrize(
    ("values", "sample_format", "photometric"),
    [
        (np.rint(RAMP * 65535).astype("<u2"), 1, 1),
        (np.rint(RAMP * 65535).astype("<u2"), 1, 0),
        (np.rint(RAMP * 60000 - 30000).astype("<i2"), 2, 1),
        (np.rint(RAMP * (2**32 - 1)).astype("<u4"), 1, 1),
        (np.rint(RAMP * 2**31 - 2**30).astype("<i4"), 2, 1),
        (RAMP.astype("<f4"), 3, 1),
        (RAMP.astype("<f4"), 3, 0),
    ],
    ids=["uint16", "uint16, 0 white", "int16", "uint32", "int32", "float32", "float32, 0 white"],
)
def test_read_face_reads_deep_tiff_by_its_tags(values, sample_format, photometric):
    face, altered = image_reader.read_face(make_deep_tiff(values, photometric, sample_format))
    expected = 255 * (RAMP if photometric else 1 - RAMP)
    np.testing.assert_allclose(face, expected, atol=1.5)
    assert "rescaled" in altered


def make_bmp(grey: np.ndarray, alpha: int) -> bytes:
    """Returns a BMP whose pixels have a fourth byte, alpha by its header."""
    height, width = grey.shape
    pixels = np.dstack([grey, grey, grey, np.full_like(grey, alpha)])[::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    return b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + header + pixels


@pytest.mark.parametrize("alpha", [0, 255])
def test_read_face_treats_bmp_with_zero_alpha_as_opaque(alpha):
    grey = np.rint(255 * RAMP).astype(np.uint8)
    face, altered = image_reader.read_face(make_bmp(grey, alpha))
    np.testing.assert_array_equal(face, grey)
    assert "composited" not in altered


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_read_face_rejects_fully_transparent_image(kind):
    hidden = Image.merge("RGBA", [Image.effect_noise((48, 48), 50)] * 3 + [Image.new("L", (48, 48), 0)])
    with pytest.raises(PictureError, match="all of its pixels are transparent"):
        image_reader.read_face(encode(hidden, kind))
