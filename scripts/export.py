"""Exports a run: python scripts/export.py --workdir=DIR --format=saved_model|tflite|onnx|bundle --output=DIR.

Before writing, each export is loaded by its runtime and compared with the run on the validation split; export.json has
the results. A bundle is the format of the model that `--workdir=bundled` opens: see fer/export/bundle.py.
"""

from absl import flags

from fer import cli, config, log_suppression
from fer.data import manifest
from fer.errors import UserError
from fer.evaluation.eval_options import ALL, export_precisions
from fer.models import loading
from fer.progress import ImageProgress

WORKDIR = flags.DEFINE_string("workdir", None, "Run directory, or `bundled`, the bundled model.")
FORMAT = flags.DEFINE_enum("format", None, [*config.FORMATS, "bundle"], "Format of the export.")
OUTPUT = flags.DEFINE_string(
    "output", None, "Directory of the exports, which may contain other formats of the same run."
)
DATA = flags.DEFINE_string(
    "data",
    None,
    "Directory of shards whose validation split is used for the comparison and for int8 calibration; by default "
    "tfrecords/NAME, with the name of the training data of the run.",
)
PRECISION = flags.DEFINE_enum(
    "precision",
    ALL,
    [ALL, "float32", "float16", "int8"],
    "Precision of the weights in --format=tflite; by default all precisions of the format.",
)
cli.require("workdir", "format", "output")


def main() -> None:
    if FORMAT.value != "bundle":
        export_precisions(FORMAT.value, PRECISION.value)
    elif PRECISION.value != ALL:
        raise UserError("--precision is only for --format=tflite. A bundle is always float16.")
    loading.check(WORKDIR.value)
    if DATA.value:
        manifest.check_manifest(DATA.value)
    log_suppression.import_tensorflow()
    from fer.export import bundle, export, parity

    if FORMAT.value == "bundle":
        with ImageProgress("evaluating") as progress:
            bundled = bundle.make_bundle(WORKDIR.value, DATA.value, OUTPUT.value, progress.update)
        print(
            f"{bundled.bytes / 1e6:.2f} MB; rounding to float16 loses {100 * bundled.accuracy_loss:.2f} points of "
            "accuracy"
        )
        for path in bundled.paths:
            print(f"wrote {path}")
        return
    request = export.ExportRequest(WORKDIR.value, FORMAT.value, OUTPUT.value, DATA.value, PRECISION.value)
    with ImageProgress("comparing") as progress:
        exported = export.export(request, progress.update)
    print(parity.format_table(exported.content["exports"]))
    for path in exported.paths:
        print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
