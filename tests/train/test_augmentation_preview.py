"""Checks the preview image of an augmentation policy."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from fer.config import Augment, Experiment
from fer.data import example_codec
from fer.errors import UserError
from fer.labels import CLASSES
from fer.train import augmentation_preview
from tests.train import factories


@pytest.mark.parametrize("policy", ["flip|crop(40)|choose(mixup(0.2),cutmix(1.0))", "none"])
def test_write_preview_draws_faces_of_the_dataset(synthetic_shards, tmp_path, capsys, monkeypatch, policy):
    monkeypatch.setattr(augmentation_preview, "VERSIONS", 1)  # drawing the faces takes most of the time
    path = str(tmp_path / "policy.png")
    augmentation_preview.write_preview(Experiment(augment=Augment(policy=policy)), synthetic_shards.folder, path)
    assert np.asarray(Image.open(path)).std() > 20
    assert capsys.readouterr().out == f"wrote {path}\n"


def test_write_preview_leaves_no_file_when_policy_is_invalid(synthetic_shards, tmp_path):
    path = tmp_path / "policy.png"
    with pytest.raises(UserError, match="the nearest is flip"):
        augmentation_preview.write_preview(
            Experiment(augment=Augment(policy="flop")), synthetic_shards.folder, str(path)
        )
    assert not path.exists()


def test_render_png_depends_only_on_seed_and_policy(monkeypatch):
    monkeypatch.setattr(augmentation_preview, "VERSIONS", 1)
    faces = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 1), dtype=np.uint8)

    def pixels(policy: str) -> np.ndarray:
        png = augmentation_preview.render_png(
            Experiment(augment=Augment(policy=policy)), faces, np.arange(2, dtype=np.int32), CLASSES
        )
        return np.asarray(Image.open(io.BytesIO(png)))

    expected = pixels("flip|affine(rotate=30)")
    np.testing.assert_array_equal(pixels("flip|affine(rotate=30)"), expected)
    assert (pixels("flip|affine(rotate=10)") != expected).any()


def test_choose_rows_picks_one_face_per_class_and_one_more():
    labels = np.random.default_rng(0).integers(0, 7, 200).astype(np.int32)
    rows = augmentation_preview._choose_rows(labels, seed=3)
    assert labels[rows][:7].tolist() == list(range(7))
    assert len(set(rows)) == 8


def test_choose_rows_leaves_out_unlabelled_faces():
    labels = np.array([0, -1, 1, 2, -1, -1, 0], np.int32)
    for seed in range(10):
        assert sorted(labels[augmentation_preview._choose_rows(labels, seed)]) == [0, 0, 1, 2]


def test_write_preview_rejects_a_split_without_labels(synthetic_shards, tmp_path, monkeypatch):
    faces = example_codec.read_split(synthetic_shards, "train")
    unlabelled = dataclasses.replace(faces, labels=np.full_like(faces.labels, -1))
    monkeypatch.setattr(example_codec, "read_split", lambda *_arguments: unlabelled)
    with pytest.raises(UserError, match="has no labelled face"):
        augmentation_preview.write_preview(factories.experiment(), synthetic_shards.folder, str(tmp_path / "a.png"))


def test_make_title_names_classes_and_shares_of_mixtures():
    assert (
        augmentation_preview._make_title(np.array([0, 0, 0, 0.7, 0.3, 0, 0]), 3, CLASSES, original=False)
        == "happy 0.70\nsad 0.30"
    )
    assert augmentation_preview._make_title(np.array([0, 0, 0, 1.0, 0, 0, 0]), 3, CLASSES, original=False) == ""
    assert augmentation_preview._make_title(np.array([0, 0, 0, 1.0, 0, 0, 0]), 3, CLASSES, original=True) == "happy"
