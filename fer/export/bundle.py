"""The network that the package carries: a run made small, measured again, and described in a model card.

A bundle is a run folder: config.json as the run has it, best.json, and the weights in float16. Beside them are the
network's graph of inference, which predicts without Keras, the eval.json of these very weights, from which the card
takes every figure, and the card.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Callable

from fer.errors import UserError
from fer.evaluation import eval_json, evaluate, inference
from fer.evaluation.requests import EvalRequest
from fer.export import export, model_card
from fer.io import files, temp_files
from fer.io.transaction import transaction
from fer.models import inference_graph, loading, weights

WEIGHTS, GRAPH, CARD = "weights.npz", "graph.pb", "MODEL_CARD.md"
MOST_BYTES = 10_000_000  # that the package may carry
MOST_LOST = 0.001  # of the accuracy, by rounding to float16


@dataclasses.dataclass(frozen=True)
class Bundle:
    """What was found."""

    lost: float  # accuracy on validation: of the float32 weights less of the float16 ones
    bytes: int  # of the weights' file
    paths: Sequence[str]  # written, the last one last


def make(
    workdir: str, data: str | None, output: str, progress: Callable[[int, int], None] = lambda done, total: None
) -> Bundle:
    """Makes a bundle of a run, and writes it into the folder `output` once it is good.

    Args:
      workdir: the run.
      data: folder of shards, on whose validation split the bundle is evaluated; None: as
        `fer.export.export.shards` says.
      output: the folder; `fer.models.loading.bundle_folder` is the package's own.
      progress: as for `fer.evaluation.evaluate.evaluate`.

    Raises:
      UserError: the run or the data cannot be read, the folder holds a run or cannot be written to, the weights take
        more than `MOST_BYTES`, or float16 loses more than `MOST_LOST`. Nothing is written then.
    """
    run = export.open_trained(workdir)
    if workdir == loading.BUNDLED:
        raise UserError("--workdir=bundled is a bundle already; name the run to make one of.")
    record = _record(os.path.join(workdir, "config.json"))
    _check_output(output)
    data = export.shards(data, run)
    with temp_files.folder("bundle") as folder:
        model = export.in_float32(run)
        weights.save(model.weights, os.path.join(folder, WEIGHTS), dtype="float16")
        size = os.path.getsize(os.path.join(folder, WEIGHTS))
        if size > MOST_BYTES:
            raise UserError(
                f"The weights of {workdir} take {size / 1e6:.1f} MB in float16; a package carries at most "
                f"{MOST_BYTES / 1e6:.0f}. Bundle a smaller network."
            )
        files.write_json(os.path.join(folder, "config.json"), record)
        inference_graph.write(model, os.path.join(folder, GRAPH))
        files.write_json(os.path.join(folder, "best.json"), _best(run, folder))
        evaluation = evaluate.evaluate(EvalRequest([folder], data), progress, [_open(folder)])
        lost = _lost(run, evaluation)
        files.write_text(os.path.join(folder, CARD), model_card.text(evaluation.content, record))
        eval_json.write_eval(os.path.join(folder, "eval.json"), evaluation.content)
        names = [WEIGHTS, GRAPH, "config.json", "eval.json", CARD, "best.json"]  # what opens the folder comes last
        with transaction() as stage:
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    files.write_bytes(stage(os.path.join(output, name)), file.read())
    return Bundle(lost, size, [os.path.join(output, name) for name in names])


def _record(path: str) -> dict[str, Any]:
    """Reads config.json of a run that has been opened.

    Raises:
      UserError: a field that the card shows is missing or of another type.
    """
    record = files.read_json(path, "the run's configuration")
    teachers, examples = record.get("teachers", []), record["data"].get("examples_per_split")
    sound = {
        "versions": isinstance(record.get("versions"), dict),
        "data.examples_per_split.train": isinstance(examples, dict) and isinstance(examples.get("train"), int),
        "teachers": isinstance(teachers, list)
        and all(isinstance(each, dict) and isinstance(each.get("weights_sha256"), str) for each in teachers),
    }
    for field, is_sound in sound.items():
        if not is_sound:
            raise UserError(f"{path} has no valid field {field}, which the model card shows: train the run anew.")
    return record


def _check_output(output: str) -> None:
    """Raises a UserError where another run would be overwritten, or nothing could be written."""
    path = os.path.join(output, "best.json")
    files.check_writable(path)
    if files.exists(path) and "rounded_to" not in files.read_json(path, "what lies in --output"):
        raise UserError(f"{output} is a run folder; choose another --output, such as {output}/bundle.")


def _best(run: loading.Run, folder: str) -> dict[str, object]:
    """best.json of a bundle: as training writes it, and whose rounding these weights are."""
    return {
        "step": run.step,
        "file": WEIGHTS,
        "sha256": files.sha256(os.path.join(folder, WEIGHTS)),
        "graph": GRAPH,
        "graph_sha256": files.sha256(os.path.join(folder, GRAPH)),
        "selected_on": run.selected_on,
        "rounded_to": "float16",
        "rounded_from_sha256": run.weights_sha256,
    }


def _open(folder: str) -> loading.Run:
    """The bundle as it will be opened from the package."""
    return dataclasses.replace(loading.open_folder(folder, "float32"), workdir=loading.BUNDLED)


def _lost(run: loading.Run, evaluation: evaluate.Evaluation) -> float:
    """How much accuracy the rounding cost.

    Raises:
      UserError: more than it may.
    """
    exact = inference.predict([export.in_float32(run)], evaluation.images).probabilities
    accuracy = float((exact.argmax(axis=1) == evaluation.predictions.labels).mean())
    lost = accuracy - evaluation.content["accuracy"]
    if round(lost, 9) > MOST_LOST:
        raise UserError(
            f"Rounding {run.workdir} to float16 loses {100 * lost:.2f} points of accuracy on validation "
            f"({100 * accuracy:.2f} % to {100 * evaluation.content['accuracy']:.2f} %), more than "
            f"{100 * MOST_LOST:g}, so nothing was written; bundle another run."
        )
    return lost
