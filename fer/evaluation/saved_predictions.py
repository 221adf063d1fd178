"""Earlier evaluations as members of an ensemble: what their networks said is known, so the networks need not be there.

A folder of results keeps the probability of each class for each face (predictions.npz) and how they came about
(eval.json). Averaged with others' they are the probabilities that evaluating all the networks together gives.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fer.data.manifest import Manifest
from fer.errors import UserError
from fer.evaluation import eval_json, predictions
from fer.evaluation.metrics import metrics
from fer.io import files

if TYPE_CHECKING:
    from fer.evaluation.eval_dataset import EvalDataset
    from fer.evaluation.inference import Prediction

LOG_LOSS_TOLERANCE = 1e-6  # of the recomputed figure, which other versions of NumPy add up in another order


@dataclasses.dataclass(frozen=True)
class SavedPredictions:
    """An evaluation of one network, or of an ensemble that counts with each of its networks."""

    folder: str
    probabilities: np.ndarray  # [n, 7] float32, of the examples that are scored, in their order
    members: list[dict[str, Any]]  # of eval.json's protocol
    images_per_second: float  # of all its members, where it was made


def read(folder: str, manifest: Manifest, split: str, tta: str, labels: str, scored: EvalDataset) -> SavedPredictions:
    """Reads an evaluation, if it is one of the same examples in the same way.

    The same examples are the same rows with the same labels, in the same order. The manifest may be another: that of
    the rows without PrivateTest, or that an earlier version wrote.

    Args:
      folder: of eval.json and predictions.npz.
      manifest, split, tta, labels: what is evaluated now, as in `fer.evaluation.requests.EvalRequest`.
      scored: its examples.

    Raises:
      UserError: a file is missing or damaged, the two are not of one evaluation, or it differs in one of the above.
    """
    path = os.path.join(folder, "eval.json")
    content = eval_json.read_eval(path)
    for name, theirs, ours in (
        ("split", content["split"], split),
        ("test-time augmentation", content["protocol"]["tta"], tta),
        ("kind of labels", content["protocol"]["labels"], labels),
    ):
        if theirs != ours:
            raise UserError(
                f"{path} is an evaluation with another {name}: {theirs}, not {ours}; its probabilities cannot be "
                "averaged with these. Evaluate all members alike."
            )
    said = read_predictions(folder, content)
    if not said.of_same_examples(predictions.Predictions(scored.labels, said.probabilities, scored.rows)):
        raise UserError(f"{folder}/predictions.npz is of other rows or labels than {manifest.folder}; evaluate again.")
    return SavedPredictions(folder, said.probabilities, content["protocol"]["members"], content["images_per_second"])


def read_predictions(folder: str, content: dict[str, Any]) -> predictions.Predictions:
    """Reads the folder's predictions.npz, if it is what its eval.json, `content`, was made of.

    Raises:
      UserError: it is not, or it is missing or damaged.
    """
    path = os.path.join(folder, "predictions.npz")
    said = predictions.read_npz(path)
    try:
        with np.errstate(invalid="ignore", divide="ignore"):
            found = metrics.measure(said.labels, predictions.normalize(said.probabilities))
    except (ValueError, IndexError, TypeError) as error:
        raise UserError(
            f"{path} holds no predictions of seven classes ({files.error_message(error)}). Evaluate again."
        ) from error
    same = found["confusion_matrix"] == content["confusion_matrix"]
    if not (same and abs(found["log_loss"] - content["log_loss"]) <= LOG_LOSS_TOLERANCE):
        raise UserError(
            f"{path} is not what the eval.json beside it was made of: it gives an accuracy of "
            f"{found['accuracy']:.4f} and a log loss of {found['log_loss']:.4f} over {len(said.labels):,} faces, the "
            f"file says {content['accuracy']:.4f} and {content['log_loss']:.4f} over {content['examples']:,}. Evaluate "
            "again."
        )
    return said


def average(fresh: Prediction | None, networks: int, kept: Sequence[SavedPredictions]) -> Prediction:
    """The mean over all networks, those computed now and those of before, each with the same weight.

    Args:
      fresh: the mean of the networks computed now, and their speed; None where there are none.
      networks: how many those are.
      kept: the evaluations of before, of the same examples.

    Returns:
      The probabilities, and the speed of computing all networks one after the other: the reciprocal of the sum of
      their times, those of before as they were measured then.
    """
    from fer.evaluation.inference import Prediction

    counts = [networks] * (fresh is not None) + [len(evaluation.members) for evaluation in kept]
    parts: list[Any] = [fresh] * (fresh is not None) + list(kept)
    mean = np.average([part.probabilities for part in parts], axis=0, weights=counts)
    return Prediction(mean.astype(np.float32), 1 / sum(1 / part.images_per_second for part in parts))
