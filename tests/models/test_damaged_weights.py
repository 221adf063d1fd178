"""Damaged files of weights and predictions are read, or raise an error that names the file."""

from __future__ import annotations

import io
import pathlib
import random
import struct
import sys
import time
import zipfile
from collections.abc import Callable

import h5py
import numpy as np
import pytest
import tensorflow as tf

from fer.errors import UserError
from fer.evaluation import prediction_files
from fer.io import files, hdf5_check
from fer.models import pretrained, weights

LONGEST = 1000  # characters of a message, whose path has some
KINDS = ["stored.npz", "deflated.npz", "predictions.npz", "whole.keras", "whole.h5", "layers.h5", "layers.weights.h5"]


@pytest.fixture(scope="module")
def network() -> tf.keras.Model:
    """Network with seven arrays."""
    image = tf.keras.layers.Input((8, 8, 1))
    features = tf.keras.layers.BatchNormalization(name="norm")(tf.keras.layers.Conv2D(4, 3, name="conv")(image))
    return tf.keras.Model(image, tf.keras.layers.Dense(3, name="dense", use_bias=False)(features))


@pytest.fixture(scope="module")
def sound(network, tmp_path_factory) -> pathlib.Path:
    """Folder with a valid file of each kind."""
    folder = tmp_path_factory.mktemp("sound")
    weights.save(network.weights, str(folder / "stored.npz"))
    np.savez_compressed(folder / "deflated.npz", *network.get_weights())
    labels = np.arange(40, dtype=np.int32) % 7
    some = prediction_files.Predictions(labels, np.full((40, 7), 1 / 7, np.float32), np.arange(40))
    prediction_files.write_npz(str(folder / "predictions.npz"), some)
    for name in ("whole.keras", "whole.h5"):
        network.save(folder / name)
    for name in ("layers.h5", "layers.weights.h5"):
        network.save_weights(folder / name)
    return folder


def read(network: tf.keras.Model, path: pathlib.Path, kind: str) -> None:
    if kind == "predictions.npz":
        prediction_files.read_npz(str(path))
    elif path.suffix == ".npz":
        weights.load(network, str(path))
    else:
        pretrained._load_keras(network, str(path))


def mutants(content: bytes, count: int, rng: random.Random) -> list[bytes]:
    """Returns the content truncated, with a flipped bit, with a run of equal bytes, or with three changed bytes."""
    found = []
    for _ in range(count):
        changed, place = bytearray(content), rng.randrange(len(content))
        kind = rng.randrange(4)
        if kind == 0:
            del changed[place:]
        elif kind == 1:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            length = rng.choice((1, 2, 4, 8, 16))
            changed[place : place + length] = bytes([rng.choice((0, 127, 128, 255))]) * length
        else:
            for _ in range(3):
                changed[rng.randrange(len(content))] = rng.randrange(256)
        found.append(bytes(changed))
    return found


def check_mutants(network: tf.keras.Model, sound: pathlib.Path, path: pathlib.Path, kind: str, count: int) -> None:
    messages = []
    for mutant in mutants((sound / kind).read_bytes(), count, random.Random(count)):
        path.write_bytes(mutant)
        begun = time.monotonic()
        try:
            read(network, path, kind)
        except UserError as error:
            messages.append(str(error))
        assert time.monotonic() - begun < 60
    assert len(messages) > count / 5, "the mutants are harmless, so nothing was tested"
    assert [text for text in messages if str(path) not in text or "\n" in text or len(text) > LONGEST] == []


@pytest.mark.parametrize("kind", KINDS)
def test_readers_of_arrays_survive_damage(network, sound, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(hdf5_check, "check", hdf5_check.inspect)  # a process for each mutant would take a minute in all
    read(network, sound / kind, kind)
    check_mutants(network, sound, tmp_path / kind, kind, 150 if kind.endswith(".npz") else 30)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_readers_of_arrays_survive_much_damage(network, sound, tmp_path, kind):
    check_mutants(network, sound, tmp_path / kind, kind, 2000)


def npy(shape: object, content: bytes, dtype: str = "<f4", version: bytes = b"\1\0") -> bytes:
    """Returns an .npy whose header may be wrong."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H" if version == b"\1\0" else "<I", len(header)) + header + content


def npz(*arrays: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for number, array in enumerate(arrays):
            archive.writestr(f"arr_{number}.npy", array)
    return out.getvalue()


def flag(content: bytes, at: int, value: bytes) -> bytes:
    """Returns a zip with changed bytes in the first entry of its directory."""
    changed, start = bytearray(content), content.index(b"PK\1\2") + at
    changed[start : start + len(value)] = value
    return bytes(changed)


FOUR = npy((4,), bytes(16))
ABSURD = {
    "more values than memory": npz(npy((1 << 40,), bytes(16))),
    "a size beyond 64 bits": npz(npy((1 << 62, 1 << 62), bytes(16))),
    "no values times many": npz(npy((0, 1 << 62, 1 << 62), b"")),
    "a negative size": npz(npy((-4,), bytes(16))),
    "fewer values than bytes": npz(npy((2,), bytes(16))),
    "sizes that are no numbers": npz(npy(("a",), bytes(16))),
    "too many dimensions": npz(npy((1,) * 70, bytes(4))),
    "objects": npz(npy((4,), bytes(32), "|O")),
    "texts": npz(npy((4,), bytes(16), "<U1")),
    "complex numbers": npz(npy((2,), bytes(16), "<c8")),
    "long doubles": npz(npy((1,), bytes(16), "<f16")),
    "fields": npz(npy((4,), bytes(16), [("a", "<f4")])),
    "a dtype that is none": npz(npy((4,), bytes(16), "q!")),
    "version 9": npz(b"\x93NUMPY\x09\0" + FOUR[8:]),
    "a header of 4 GB": npz(b"\x93NUMPY\2\0" + b"\xff" * 8),
    "a header nested without end": npz(npy((4,), bytes(16)).replace(b"(4,)", b"(" * 9000)),
    "an encrypted entry": flag(npz(FOUR), 8, b"\1\0"),
    "an unknown compression": flag(npz(FOUR), 10, b"\x63\0"),
    "a later zip": flag(npz(FOUR), 6, b"\xf0\0"),
    "zeros that unpack without end": npz(npy((1 << 25,), bytes(1 << 27)), method=zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("case", ABSURD)
def test_npz_error_names_file_with_absurd_content(case, tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(ABSURD[case])
    with pytest.raises(UserError, match=r"^\S*weights\.npz is no readable \.npz of weights: [^\n]{5,400}$") as raised:
        weights.read(str(path))
    assert "memory" not in str(raised.value), "it was attempted"


@pytest.mark.parametrize(
    "array", [np.arange(6, dtype=">f8").reshape(2, 3), np.asfortranarray(np.eye(3)), np.float32(3), np.zeros((0, 4))]
)
def test_npz_gives_arrays_of_any_layout(array, tmp_path):
    np.savez(tmp_path / "weights.npz", array)
    (found,) = weights.read(str(tmp_path / "weights.npz")).values()
    np.testing.assert_array_equal(found, array)
    assert found.flags.c_contiguous
    assert found.flags.writeable
    assert found.dtype.isnative


PREDICTIONS = {
    "no rows": {"labels": np.zeros(2, int), "probabilities": np.full((2, 7), 1 / 7)},
    "one class": {"labels": np.zeros(2, int), "probabilities": np.ones((2, 1)), "rows": np.arange(2)},
    "no classes": {"labels": np.zeros(2, int), "probabilities": np.full(2, 1 / 6), "rows": np.arange(2)},
    "fewer labels": {"labels": np.zeros(1, int), "probabilities": np.full((2, 7), 1 / 7), "rows": np.arange(2)},
    "labels of fractions": {"labels": np.zeros(2), "probabilities": np.full((2, 7), 1 / 7), "rows": np.arange(2)},
    "a number": {"labels": np.int32(2), "probabilities": np.full((2, 7), 1 / 7), "rows": np.arange(2)},
}


@pytest.mark.parametrize("case", PREDICTIONS)
def test_predictions_error_names_file_of_another_form(case, tmp_path):
    np.savez(tmp_path / "predictions.npz", **PREDICTIONS[case])
    with pytest.raises(
        UserError, match=r"predictions\.npz is no readable file of predictions: (it has no array \w+|\w+ is \w+)"
    ):
        prediction_files.read_npz(str(tmp_path / "predictions.npz"))


def texts(file: h5py.File) -> None:
    file.create_dataset("array", data=["a", "text"], dtype=h5py.string_dtype())


def absurd(file: h5py.File) -> None:
    """Creates an array of 4 TB without data."""
    file.create_dataset("array", (1 << 40,), "f4")


def padded(file: h5py.File) -> None:
    """Creates an array of 4 TB in chunks, one of which has data."""
    file.create_dataset("array", (1 << 40,), "f4", chunks=(4,))[:4] = 1


def elsewhere(file: h5py.File) -> None:
    file.create_dataset("array", (4,), "f4", external=[("/dev/zero", 0, 16)])


def linked(file: h5py.File) -> None:
    file["array"] = h5py.ExternalLink("other.h5", "/array")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "array", (4,))
    file.create_virtual_dataset("array", layout)


def cyclic(file: h5py.File) -> None:
    for name in "ab":
        file[name] = file


@pytest.mark.parametrize(
    "make", [absurd, texts, padded, elsewhere, linked, virtual, cyclic], ids=lambda make: make.__name__
)
def test_hdf5_error_names_file_with_absurd_content(make: Callable[[h5py.File], None], network, tmp_path):
    path = str(tmp_path / "network.weights.h5")
    network.save_weights(path)
    hdf5_check.check(path)
    with h5py.File(path, "a") as file:
        make(file)
    with pytest.raises(UserError, match=r"network\.weights\.h5 does not hold the weights of model\S*: [^\n]{5,400}$"):
        pretrained._load_keras(network, path)


def endless(path: str) -> None:
    """Writes a file in which HDF5 searches for a text in a heap whose first object has no size."""
    with h5py.File(path, "a") as file:
        file.attrs["note"] = "text"
    content = bytearray(pathlib.Path(path).read_bytes())
    size = content.index(b"GCOL") + 24
    content[size : size + 8] = bytes(8)
    pathlib.Path(path).write_bytes(content)


def test_hdf5_error_names_file_that_is_read_without_end(network, tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_check, "TIMEOUT_S", 2.0)
    path = str(tmp_path / "network.weights.h5")
    network.save_weights(path)
    endless(path)
    with pytest.raises(
        UserError, match=r"does not hold the weights of \S+: HDF5 has not read it in 2 s: it is damaged"
    ):
        pretrained._load_keras(network, path)


def test_hdf5_error_names_file_that_crashes_its_reader(network, tmp_path, monkeypatch):
    crash = "import os, signal, sys; os.kill(os.getpid(), signal.SIGSEGV)"
    (tmp_path / "python").write_text(f"#!/bin/sh\nexec {sys.executable} -c '{crash}'\n")
    (tmp_path / "python").chmod(0o755)
    path = str(tmp_path / "network.weights.h5")
    network.save_weights(path)
    pretrained._load_keras(network, path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(
        UserError, match=r"network\.weights\.h5 does not hold .*: HDF5 ends with code -11 when it reads it"
    ):
        pretrained._load_keras(network, path)


def test_keras_archive_error_names_file_that_unpacks_without_end(network, tmp_path):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("model.weights.h5", bytes(1 << 27))
    with pytest.raises(UserError, match=r"bomb\.keras does not hold .* has [\d,]+ bytes and unpacks to more than"):
        pretrained._load_keras(network, str(path))


@pytest.mark.parametrize("kind", ["best.json", "weights.npz"])
def test_weights_error_names_oversized_file_without_reading_it(kind, tmp_path):
    path = tmp_path / kind
    path.touch()
    with path.open("r+b") as file:
        file.truncate(5_000_000_000)
    reader = weights.read if kind == "weights.npz" else lambda path: files.read_json(path, "the best weights")
    with pytest.raises(UserError, match=rf"{kind} has more than [\d,]+ bytes: it is damaged or another file"):
        reader(str(path))
