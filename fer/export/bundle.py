"""Bundles a run for the package: its weights in float16, evaluated again and described in a model card.

A bundle is a run folder with the config.json of the run, best.json and the weights in float16. It also holds the
inference graph, which predicts without Keras, the eval.json of the float16 weights, and MODEL_CARD.md, whose figures
all come from that eval.json.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

from fer.errors import UserError
from fer.evaluation import eval_json, evaluate, inference
from fer.evaluation.eval_options import EvalRequest
from fer.export import export, model_card
from fer.io import files, temp_files
from fer.io.transaction import publish
from fer.models import export_manifest, inference_graph, loading, weights
from fer.run_dir import BEST_FILE, CARD_FILE, CONFIG_FILE, EVAL_FILE, GRAPH_FILE, WEIGHTS_FILE, RunDir

MAX_BYTES = 10_000_000  # of the weights file in the package
# best.json comes last, because it makes the folder a run.
FILES = (WEIGHTS_FILE, GRAPH_FILE, CONFIG_FILE, EVAL_FILE, CARD_FILE, BEST_FILE)
MAX_ACCURACY_LOSS = 0.001  # by rounding to float16


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Result of `make_bundle`."""

    accuracy_loss: float  # on validation: accuracy of the float32 weights minus accuracy of the float16 weights
    bytes: int  # of the weights file
    paths: Sequence[str]  # of the written files, in the order of writing


def make_bundle(
    workdir: str, data: str | None, output: str, progress: Callable[[int, int], None] = lambda done, total: None
) -> Bundle:
    """Makes a bundle of a run and writes it into the folder `output` after all checks have passed.

    Args:
      workdir: folder of the run.
      data: folder of shards, on whose validation split the bundle is evaluated; None: see
        `fer.export.export.find_shards`.
      output: folder of the bundle; that of the package is `fer.models.loading.bundle_folder`.
      progress: as for `fer.evaluation.evaluate.evaluate`.

    Raises:
      UserError: the run or the data cannot be read, the folder holds a run or cannot be written to, the weights take
        more than `MAX_BYTES`, or float16 loses more than `MAX_ACCURACY_LOSS`. Nothing is written then.
    """
    run = export.open_exportable_run(workdir)
    if workdir == loading.BUNDLED:
        raise UserError("--workdir=bundled is already a bundle; name a run.")
    _check_output(output)
    data = export.find_shards(data, run)
    with temp_files.folder("bundle") as folder:
        model = export.to_float32(run)
        path = os.path.join(folder, WEIGHTS_FILE)
        weights.save(model.weights, path, dtype="float16")
        size = os.path.getsize(path)
        if size > MAX_BYTES:
            raise UserError(
                f"The weights of {workdir} take {size / 1e6:.1f} MB in float16; a package carries at most "
                f"{MAX_BYTES / 1e6:.0f}. Bundle a smaller network."
            )
        config_json = files.read_bytes(RunDir(workdir).config_file, f"{workdir} has no {CONFIG_FILE}.")
        files.write_bytes(RunDir(folder).config_file, config_json)
        inference_graph.write(model, os.path.join(folder, GRAPH_FILE))
        RunDir(folder).write_best_of_bundle(run.step, run.selected_on, run.weights_sha256)
        evaluation = evaluate.evaluate(EvalRequest([folder], data), progress, [_open(folder)])
        accuracy_loss = _check_accuracy_loss(run, evaluation)
        card = model_card.build_card(evaluation.content, RunDir(folder).read_config())
        files.write_text(os.path.join(folder, CARD_FILE), card)
        eval_json.write_eval(RunDir(folder).eval_file, evaluation.content)
        return Bundle(accuracy_loss, size, publish(folder, FILES, output))


def _check_output(output: str) -> None:
    """Checks that the folder can be written to, and holds no exports, no run and no other files of a bundle's names.

    An earlier bundle may be replaced.

    Raises:
      UserError: it cannot, or it does.
    """
    run = RunDir(output)
    files.check_writable(run.best_file)
    if run.is_run() and not (files.exists(run.best_file) and run.read_best().rounded_to):
        raise UserError(f"{output} is a run folder; choose another --output, such as {output}/bundle.")
    if files.exists(os.path.join(output, export_manifest.FILE)):
        raise UserError(f"{output} holds exports; choose another --output, such as {output}/bundle.")
    export.check_replaceable(output, FILES, FILES if files.exists(run.best_file) else ())


def _open(folder: str) -> loading.LoadedRun:
    """Opens the bundle as `bundled`, the name that it has in the package."""
    return dataclasses.replace(loading.open_folder(folder, "float32"), workdir=loading.BUNDLED)


def _check_accuracy_loss(run: loading.LoadedRun, evaluation: evaluate.Evaluation) -> float:
    """Returns the accuracy that rounding to float16 loses.

    Raises:
      UserError: it is more than `MAX_ACCURACY_LOSS`.
    """
    exact = inference.predict([export.to_float32(run)], evaluation.images).probabilities
    accuracy = float((exact.argmax(axis=1) == evaluation.predictions.labels).mean())
    loss = accuracy - evaluation.content["accuracy"]
    if round(loss, 9) > MAX_ACCURACY_LOSS:
        raise UserError(
            f"Rounding {run.workdir} to float16 loses {100 * loss:.2f} points of accuracy on validation "
            f"({100 * accuracy:.2f} % to {100 * evaluation.content['accuracy']:.2f} %), more than "
            f"{100 * MAX_ACCURACY_LOSS:g}, so nothing was written. Bundle another run."
        )
    return loss
