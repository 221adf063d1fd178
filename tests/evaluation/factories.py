"""Small run folders and folders of shards for tests, written without fer.train and fer.convert."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import pathlib
from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Experiment, Model, Train
from fer.export import export, parity
from fer.labels import CLASSES
from fer.models import classifier, loading, weights
from tests.scripts import run_script

EXPERIMENT = Experiment(model=Model(name="tiny", image_size=24), train=Train(precision="float32"))
EXPORT_FACES = 30  # of the shards that exports are compared on
TRAINED_ON = {"name": "faces", "manifest_sha256": "0" * 64}


def images(count: int, seed: int = 0) -> np.ndarray:
    """Returns random grey blocks [count, 48, 48, 1] uint8, whose features differ between images."""
    blocks = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 1), dtype=np.uint8)
    return np.kron(blocks, np.ones((1, 8, 8, 1), np.uint8))


def shards(
    folder: pathlib.Path,
    splits: dict[str, tuple[np.ndarray, np.ndarray]],
    votes: dict[str, np.ndarray] | None = None,
    classes: tuple[str, ...] = CLASSES,
) -> str:
    """Writes each split's (images, labels) as one shard, with a manifest. Rows are numbered from 1000."""
    folder.mkdir(parents=True)
    described = {}
    for split, (faces, labels) in splits.items():
        file = folder / f"{split}-00000-of-00001.tfrecord"
        with tf.io.TFRecordWriter(str(file)) as writer:
            for index, (face, label) in enumerate(zip(faces, labels)):
                row_votes = votes[split][index] if votes else None
                writer.write(_example(face, int(label), 1000 + index, row_votes))
        content = file.read_bytes()
        described[split] = {
            "examples": len(labels),
            "class_counts": {name: int((labels == index).sum()) for index, name in enumerate(classes)},
            "shards": [
                {
                    "file": file.name,
                    "examples": len(labels),
                    "bytes": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            ],
        }
    manifest = {
        "format_version": 1,
        "name": folder.name,
        "classes": list(classes),
        "image": {"height": 48, "width": 48, "channels": 1, "encoding": "raw uint8, row by row"},
        "splits": described,
        "statistics": {"mean": 0.5, "std": 0.25},
        "source": {},
        "audit": {},
        "options": {},
        "created_by": "tests",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return str(folder)


def run(
    folder: pathlib.Path, seed: int = 0, experiment: Experiment = EXPERIMENT, classes: tuple[str, ...] = CLASSES
) -> str:
    """Writes a run folder as training does: a network with random weights, recorded as best at step 12.

    FER-2013's classes are not recorded, as in runs of earlier versions.
    """
    (folder / "checkpoints").mkdir(parents=True)
    file = folder / "checkpoints" / "best-00000012.npz"
    model = classifier.build(experiment.model, experiment.train.precision, seed, len(classes))
    weights.save(model.weights, str(file))
    best = {
        "step": 12,
        "epoch": 1,
        "accuracy": 0.5,
        "file": "checkpoints/best-00000012.npz",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "selected_on": "validation",
    }
    config = {
        "config": experiment.to_dict(),
        "config_sha256": experiment.sha256(),
        "data": {**TRAINED_ON, "examples_per_split": {"train": 100}},
        **({} if classes == CLASSES else {"classes": list(classes)}),
        "versions": {},
        "git_commit": None,
    }
    epoch = {
        "epoch": 1,
        "step": 12,
        "learning_rate": 0.1,
        "train_loss": 2.0,
        "train_accuracy": 0.4,
        "validation_loss": 1.9,
        "validation_accuracy": 0.5,
        "validation_macro_f1": 0.4,
        "images_per_second": 100.0,
        "seconds": 1.0,
    }
    for name, value in (("best.json", best), ("config.json", config), ("history.json", [epoch])):
        (folder / name).write_text(json.dumps(value))
    return str(folder)


def runs_to_average(folder: pathlib.Path, names: Sequence[str], count: int = 60) -> None:
    """Writes runs and the shards faces/, of whose labels the mean of the first two runs predicts nine tenths."""
    for seed, name in enumerate(names):
        run(folder / name, seed=seed)
    faces = images(count)
    model = classifier.build(EXPERIMENT.model, EXPERIMENT.train.precision)
    model.set_weights(mean_weights(folder, names[:2]))
    labels = model.predict_on_batch(faces).argmax(axis=1)
    labels[::10] = (labels[::10] + 1) % 7
    shards(folder / TRAINED_ON["name"], {"validation": (faces, labels)})


def mean_weights(folder: pathlib.Path, names: Sequence[str]) -> list[np.ndarray]:
    """Returns the means of the arrays of runs in a folder."""
    networks = [weights.read(str(folder / name / "checkpoints" / "best-00000012.npz")).values() for name in names]
    return [np.mean(arrays, axis=0) for arrays in zip(*networks)]


def exports(folder: pathlib.Path) -> None:
    """Fills a folder with the content that the fixture `export_folder` describes."""
    run(folder / "run", seed=3)
    run(folder / "other", seed=4)
    faces, classes = _separate_classes(folder / "run")
    np.save(folder / "faces.npy", faces)
    labels = (classes + (np.arange(EXPORT_FACES) % 6 == 0)) % 7
    shards(folder / "tfrecords" / TRAINED_ON["name"], {"validation": (faces, labels)})
    done = run_script.run("export.py", folder, "--workdir=run", "--format=tflite", "--output=exports")
    assert (done.returncode, done.stderr) == (0, "")  # the output of the converter is suppressed
    (folder / "printed").write_text(done.stdout)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(parity, "MAX_SECONDS", 0.0)  # no test checks the times
        for kind, package in (("onnx", "tf2onnx"), ("saved_model", "tensorflow")):
            if importlib.util.find_spec(package):
                export.export(export.ExportRequest("run", kind, "exports"))


def _separate_classes(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Gives a run weights that predict many classes, and finds faces whose predicted classes no rounding changes.

    Returns:
      The faces [EXPORT_FACES, 48, 48, 1] uint8, and the classes that the run predicts.
    """
    path = next((folder / "checkpoints").glob("best-*.npz"))
    model = loading.open_run(str(folder)).model
    kernel, bias = model.get_layer("logits").weights
    kernel.assign(100 * kernel)
    faces = images(500)
    logits = model(faces, training=False).numpy()
    bias.assign_sub(logits.mean(axis=0))  # otherwise one class is the largest for every face
    ordered = np.sort(logits - logits.mean(axis=0), axis=1)
    surest = np.argsort(ordered[:, -2] - ordered[:, -1])[:EXPORT_FACES]
    weights.save(model.weights, str(path))
    best = json.loads((folder / "best.json").read_text())
    best["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "best.json").write_text(json.dumps(best))
    return faces[surest], (logits - logits.mean(axis=0))[surest].argmax(axis=1)


def _example(face: np.ndarray, label: int, row: int, votes: np.ndarray | None) -> bytes:
    def integers(*values: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[face.tobytes()])),
        "label": integers(label),
        "row": integers(row),
    }
    if votes is not None:
        features["votes"] = integers(*votes.tolist())
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
