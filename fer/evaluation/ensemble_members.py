"""Saved predictions as members of an ensemble, without their networks.

The output folder of an evaluation holds the probabilities of each face (predictions.npz) and the protocol (eval.json).
Their mean with the probabilities of other networks equals the result of evaluating all networks together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fer.data.manifest import Manifest
from fer.errors import UserError
from fer.evaluation import eval_json, prediction_files
from fer.evaluation.metrics import metrics
from fer.io import files
from fer.models.loading import check_same_classes
from fer.run_dir import RunDir

if TYPE_CHECKING:
    from fer.evaluation.eval_dataset import EvalDataset
    from fer.evaluation.inference import Prediction

LOG_LOSS_TOLERANCE = 1e-6  # of the recomputed log loss, because versions of NumPy sum in different orders


@dataclasses.dataclass(frozen=True)
class SavedPredictions:
    """Predictions of one network, or of an ensemble, in which each of its networks has the same weight."""

    folder: str
    probabilities: np.ndarray  # [n, C] float32, in the order of the evaluated examples
    members: list[dict[str, Any]]  # of eval.json's protocol
    images_per_second: float  # recorded in eval.json


def read(folder: str, manifest: Manifest, split: str, tta: str, labels: str, dataset: EvalDataset) -> SavedPredictions:
    """Reads saved predictions and checks that they are for the same examples and protocol.

    The same examples are the same rows with the same labels in the same order. The manifest may differ, such as that of
    a conversion without PrivateTest or by an earlier version.

    Args:
      folder: of eval.json and predictions.npz.
      manifest: of the data evaluated now.
      split, tta, labels: of this evaluation, as in `fer.evaluation.eval_options.EvalRequest`.
      dataset: its examples.

    Raises:
      UserError: a file is missing or damaged, the files are not from one evaluation, or classes, examples or protocol
        differ.
    """
    path = RunDir(folder).eval_file
    content = eval_json.read_eval(path)
    for name, recorded, required in (
        ("split", content["split"], split),
        ("test-time augmentation", content["protocol"]["tta"], tta),
        ("kind of labels", content["protocol"]["labels"], labels),
    ):
        if recorded != required:
            raise UserError(
                f"{path} is an evaluation with another {name}: {recorded}, not {required}. Evaluate all members of an "
                "ensemble with the same options."
            )
    check_same_classes(path, content["classes"], manifest.folder, manifest.classes)
    saved = read_predictions(folder, content)
    if not saved.has_same_examples(prediction_files.Predictions(dataset.labels, saved.probabilities, dataset.rows)):
        raise UserError(
            f"{RunDir(folder).predictions_file} has other rows or labels than {manifest.folder}. Evaluate its run "
            "again."
        )
    return SavedPredictions(folder, saved.probabilities, content["protocol"]["members"], content["images_per_second"])


def read_predictions(folder: str, content: dict[str, Any]) -> prediction_files.Predictions:
    """Reads predictions.npz and checks that `content`, the eval.json beside it, was computed from it.

    Raises:
      UserError: it was not, or predictions.npz is missing or damaged.
    """
    path = RunDir(folder).predictions_file
    saved = prediction_files.read_npz(path)
    try:
        with np.errstate(invalid="ignore", divide="ignore"):
            probabilities = prediction_files.normalize(saved.probabilities)
            computed = metrics.compute_metrics(saved.labels, probabilities, content["classes"])
    except (ValueError, IndexError, TypeError) as error:
        raise UserError(
            f"{path} has no valid predictions of {len(content['classes'])} classes ({files.error_message(error)}). "
            "Evaluate again."
        ) from error
    same = computed["confusion_matrix"] == content["confusion_matrix"]
    if not (same and abs(computed["log_loss"] - content["log_loss"]) <= LOG_LOSS_TOLERANCE):
        raise UserError(
            f"{path} does not match the eval.json beside it: accuracy {computed['accuracy']:.4f}, log loss "
            f"{computed['log_loss']:.4f} and {len(saved.labels):,} faces, recorded {content['accuracy']:.4f}, "
            f"{content['log_loss']:.4f} and {content['examples']:,}. Evaluate again."
        )
    return saved


def average(computed: Prediction | None, networks: int, saved: Sequence[SavedPredictions]) -> Prediction:
    """Averages the probabilities of all networks, computed and saved, with equal weights.

    Args:
      computed: mean probabilities of the networks evaluated now, and their throughput; None if there are none.
      networks: number of networks in `computed`.
      saved: saved predictions for the same examples.

    Returns:
      The mean probabilities, and the throughput of all networks run one after the other: the reciprocal of the sum of
      their times per image, with the recorded times of saved predictions.
    """
    from fer.evaluation.inference import Prediction

    counts = [networks] * (computed is not None) + [len(evaluation.members) for evaluation in saved]
    parts: list[Any] = [computed] * (computed is not None) + list(saved)
    mean = np.average([part.probabilities for part in parts], axis=0, weights=counts)
    return Prediction(mean.astype(np.float32), 1 / sum(1 / part.images_per_second for part in parts))
