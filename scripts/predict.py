"""Predicts expressions: python scripts/predict.py --workdir=DIR --input=test.csv|DIR|IMAGE|- --output=FILE."""

from absl import flags

from fer import cli, config, log_suppression
from fer.evaluation import requests
from fer.io import files
from fer.models import loading
from fer.progress import ImageProgress

WORKDIR = cli.define_paths(
    "workdir",
    "Run folder that scripts/train.py wrote, a folder or file that scripts/export.py wrote, or bundled, the network "
    "that the package carries; several, comma-separated, are an ensemble: their probabilities are averaged.",
)
INPUT = flags.DEFINE_string(
    "input",
    None,
    "Table with a column pixels, compressed or not, a picture or photo, a folder of them, or - for the bytes of one "
    "on standard input.",
)
FACES = flags.DEFINE_enum(
    "faces",
    "auto",
    config.FACES,
    "What a picture holds: find looks for faces, whole takes it as one face, auto does so if it has 48x48 pixels.",
)
FIT = flags.DEFINE_enum(
    "fit", "stretch", config.FITS, "How pictures that are taken whole and are not square become so."
)
TTA = flags.DEFINE_enum("tta", "none", config.TTA, "Test-time augmentation: views of a face that are averaged.")
OUTPUT = flags.DEFINE_string(
    "output",
    "predictions.csv",
    "CSV to write: id, label, name, one probability a class. Photos with their faces named go into a folder beside it. "
    "- is standard output.",
)
KAGGLE = flags.DEFINE_boolean("kaggle", False, "Writes the challenge's submission form instead: a column emotion.")
cli.require("input")


def main() -> None:
    for workdir in WORKDIR.value:
        loading.check(workdir)
    requests.check_input(INPUT.value)
    files.check_writable(OUTPUT.value)
    log_suppression.import_tensorflow()
    from fer.evaluation import inference
    from fer.predict import input_readers, predict

    models = [loading.open_network(workdir) for workdir in WORKDIR.value]
    faces = input_readers.read(INPUT.value, FACES.value, FIT.value)
    predict.check(INPUT.value, OUTPUT.value, faces, KAGGLE.value)
    with ImageProgress("predicting") as progress:
        count = len(faces.images)
        found = inference.predict(
            models, faces.images, tta=TTA.value, progress=lambda done: progress.update(done, count), warm_up=False
        )
    paths = predict.write(OUTPUT.value, faces, found.probabilities, KAGGLE.value)
    for line in [*predict.summary_lines(INPUT.value, faces, found), *(f"wrote {path}" for path in paths)]:
        print(line)
    predict.report(faces, OUTPUT.value)


if __name__ == "__main__":
    cli.run(main)
