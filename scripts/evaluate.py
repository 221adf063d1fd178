"""Evaluates a run, or an ensemble of runs: python scripts/evaluate.py --workdir=DIR --data=DIR --split=validation."""

import os

from absl import flags

from fer import cli, config, log_suppression
from fer.evaluation.requests import EvalRequest
from fer.io import files
from fer.progress import ImageProgress

WORKDIR = cli.define_paths(
    "workdir",
    "Run folder, export (its folder or file) or bundled; several, comma-separated, are an ensemble: their "
    "probabilities are averaged. A member may be a folder of results (eval.json and predictions.npz), too.",
)
DATA = flags.DEFINE_string("data", None, "Folder of shards that scripts/convert.py wrote.")
SPLIT = flags.DEFINE_enum("split", "validation", config.SPLITS, "Split to evaluate.")
TTA = flags.DEFINE_enum("tta", "none", config.TTA, "Test-time augmentation: views of a face that are averaged.")
LABELS = flags.DEFINE_enum("labels", "fer", config.LABELS, "What counts as true: FER-2013's labels or FER+'s majority.")
CORRUPTIONS = flags.DEFINE_boolean(
    "corruptions", False, "Scores the faces made worse too, in eight ways at five strengths: 40 passes over the split."
)
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Folder of the results. By default the run folder, for validation without --tta and --labels; "
    "<workdir>/eval-<split>[-<tta>][-ferplus] for the rest, and <file>-results of an export that is named by its file; "
    "an ensemble and bundled need it.",
)
cli.require("data")


def main() -> None:
    request = EvalRequest(WORKDIR.value, DATA.value, SPLIT.value, TTA.value, LABELS.value, CORRUPTIONS.value)
    output = OUTPUT.value or request.default_output()
    files.check_writable(os.path.join(output, "eval.json"))
    request.check()
    log_suppression.import_tensorflow()
    from fer.evaluation import eval_json, evaluate

    with ImageProgress("evaluating") as progress:
        evaluation = evaluate.evaluate(request, progress.update)
    paths = evaluate.write(evaluation, output)
    print(eval_json.summary_line(evaluation.content))
    for path in paths:
        print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
