"""Exports a run: python scripts/export.py --workdir=DIR --format=saved_model|tflite|onnx|bundle --output=DIR.

Each export is loaded by its own runtime and compared with the run on the validation split, before anything is
written; export.json holds what was found. A bundle is what `--workdir=bundled` opens: see fer/export/bundle.py.
"""

from absl import flags

from fer import cli, config, log_suppression
from fer.data import manifest
from fer.errors import UserError
from fer.evaluation.requests import ALL, export_precisions
from fer.models import loading
from fer.progress import ImageProgress

WORKDIR = flags.DEFINE_string("workdir", None, "Run folder that scripts/train.py wrote, or bundled.")
FORMAT = flags.DEFINE_enum("format", None, [*config.FORMATS, "bundle"], "What it is exported as.")
OUTPUT = flags.DEFINE_string("output", None, "Folder of the exports; may hold the run's other formats.")
DATA = flags.DEFINE_string(
    "data",
    None,
    "Folder of shards whose validation split compares, and calibrates int8; by default tfrecords/NAME, the NAME being "
    "that of the data on which the run was trained.",
)
PRECISION = flags.DEFINE_enum(
    "precision",
    ALL,
    [ALL, "float32", "float16", "int8"],
    "Of tflite: what the weights are stored in. By default all that the format has.",
)
cli.require("workdir", "format", "output")


def main() -> None:
    if FORMAT.value != "bundle":
        export_precisions(FORMAT.value, PRECISION.value)
    elif PRECISION.value != ALL:
        raise UserError("--precision is for --format=tflite; a bundle is always float16.")
    loading.check(WORKDIR.value)
    if DATA.value:
        manifest.check_manifest(DATA.value)
    log_suppression.import_tensorflow()
    from fer.export import bundle, export, parity

    if FORMAT.value == "bundle":
        with ImageProgress("evaluating") as progress:
            made = bundle.make_bundle(WORKDIR.value, DATA.value, OUTPUT.value, progress.update)
        print(f"{made.bytes / 1e6:.2f} MB; rounding to float16 loses {100 * made.accuracy_loss:.2f} points of accuracy")
        for path in made.paths:
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
