"""Predicts expressions: python scripts/predict.py --workdir=DIR --input=test.csv|DIR|IMAGE|- --output=FILE."""

from absl import flags

from fer import cli, config, log_suppression
from fer.evaluation import eval_options
from fer.io import files
from fer.models import loading
from fer.progress import ImageProgress

WORKDIR = cli.define_paths(
    "workdir",
    "Run directory that scripts/train.py wrote, export (directory or file) or `bundled`, the bundled model. Several, "
    "comma-separated, are an ensemble, which averages probabilities.",
)
INPUT = flags.DEFINE_string(
    "input",
    None,
    "CSV file with a column pixels (it may be compressed), an image, a directory of images, or - for an image on the "
    "standard input.",
)
FACES = flags.DEFINE_enum(
    "faces",
    "auto",
    config.FACES,
    "Faces of an image: find detects them, whole uses the image as one face, auto does so for 48x48 pixels.",
)
FIT = flags.DEFINE_enum("fit", "stretch", config.FITS, "Method for making whole images square.")
TTA = flags.DEFINE_enum("tta", "none", config.TTA, "Test-time augmentation, averaged over views.")
OUTPUT = flags.DEFINE_string(
    "output",
    "predictions.csv",
    "CSV file to write, with id, label, name and the probability of each class; - is the standard output. Annotated "
    "photos go to a directory next to it.",
)
KAGGLE = flags.DEFINE_boolean(
    "kaggle", False, "Writes the submission format of the Kaggle challenge, a column emotion."
)
cli.require("input")


def main() -> None:
    for workdir in WORKDIR.value:
        loading.check(workdir)
    eval_options.check_input(INPUT.value)
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
