"""Evaluates a run, or an ensemble of runs: python scripts/evaluate.py --workdir=DIR --data=DIR --split=validation."""

from absl import flags

from fer import cli, config, log_suppression
from fer.evaluation.eval_options import EvalRequest
from fer.progress import ImageProgress
from fer.run_dir import RunDir
from fer.train import mlflow_logging

WORKDIR = cli.define_paths(
    "workdir",
    "Run directory, export (directory or file) or `bundled`, the bundled model. Several, comma-separated, are an "
    "ensemble, which averages probabilities. A member may be a directory with eval.json and predictions.npz.",
)
DATA = flags.DEFINE_string("data", None, "Directory of shards that scripts/convert.py wrote.")
SPLIT = flags.DEFINE_enum("split", "validation", config.SPLITS, "Split to evaluate.")
TTA = flags.DEFINE_enum("tta", "none", config.TTA, "Test-time augmentation, averaged over views.")
LABELS = flags.DEFINE_enum("labels", "fer", config.LABELS, "Ground truth: labels of the data or majority of FER+.")
ROBUSTNESS = flags.DEFINE_boolean(
    "robustness", False, "Also evaluates ten corruptions at five strengths: 50 passes over the split."
)
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Directory of the results. Default: the run directory for validation without --tta and --labels, else "
    "<workdir>/eval-<split>[-<tta>][-ferplus]; <file>-results for the file of an export. Required for an ensemble and "
    "for `bundled`.",
)
MLFLOW = flags.DEFINE_string("mlflow", None, "Tracking URI of MLflow: logs the results to the MLflow run of the run.")
cli.require("data")


def main() -> None:
    request = EvalRequest(WORKDIR.value, DATA.value, SPLIT.value, TTA.value, LABELS.value, ROBUSTNESS.value)
    output = OUTPUT.value or request.default_output()
    request.check_output(output)
    request.check()
    mlflow_logging.check_run(MLFLOW.value, WORKDIR.value)
    log_suppression.import_tensorflow()
    from fer.evaluation import eval_json, evaluate

    with ImageProgress("evaluating") as progress:
        evaluation = evaluate.evaluate(request, progress.update)
    paths = evaluate.write(evaluation, output)
    print(eval_json.summary_line(evaluation.content))
    for path in paths:
        print(f"wrote {path}")
    if MLFLOW.value:
        run = mlflow_logging.MlflowRun(MLFLOW.value, RunDir(WORKDIR.value[0]))
        run.log_evaluation(request.name(), evaluation.content)


if __name__ == "__main__":
    cli.run(main)
