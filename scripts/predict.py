"""Predicts expressions: python scripts/predict.py photo.jpg|clip.mp4|DIR|a.csv|- ... [--workdir=DIR] [--output=CSV]."""

import contextlib
import sys

from absl import flags

from fer import cli, config, log_suppression
from fer.models import loading
from fer.predict import box_file, inputs, video_request

INPUT = cli.define_inputs(
    "input",
    "Image, directory of images, pattern such as 'photos/*.jpg', archive, CSV file with a column pixels (it may be "
    "compressed), video, camera:0, or - for an image on the standard input. Inputs may also be named without --input.",
)
WORKDIR = cli.define_paths(
    "workdir",
    "Run directory that scripts/train.py wrote, export (directory or file) or `bundled`, the bundled model. Several, "
    "comma-separated, are an ensemble, which averages probabilities.",
    default=loading.BUNDLED,
)
FACES = flags.DEFINE_enum(
    "faces",
    "auto",
    config.FACES,
    "Faces of an image: find detects them, whole uses the image as one face, auto does so for 48x48 pixels.",
)
BOXES = flags.DEFINE_string(
    "boxes",
    None,
    "CSV file with the columns path, x, y, width and height: classifies these faces instead of detected ones.",
)
FIT = flags.DEFINE_enum("fit", "stretch", config.FITS, "Method for making images square, for --faces=whole.")
TTA = flags.DEFINE_enum("tta", "none", config.TTA, "Test-time augmentation, averaged over views.")
JSON = flags.DEFINE_boolean("json", False, "Prints one JSON array with boxes, labels and probabilities.")
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "CSV file to write instead of printing the faces, with id, label, name and the probability of each class; - is the "
    "standard output. Annotated photos go to a directory next to it, the plot of a video to a PNG file.",
)
KAGGLE = flags.DEFINE_boolean(
    "kaggle", False, "Writes the submission format of the Kaggle challenge, a column emotion, to --output."
)
ANNOTATE = flags.DEFINE_string("annotate", None, "Video to write with labelled faces, for a video.")
EVERY = flags.DEFINE_string("every", None, "Interval between two analysed frames of a video, such as 0.2s.")
SMOOTH = flags.DEFINE_string(
    "smooth", None, "Smoothing of a video's probabilities: exponential:SECONDS or window:SECONDS."
)


def main() -> None:
    for workdir in WORKDIR.value:
        loading.check(workdir)
    paths = inputs.expand(INPUT.value)
    inputs.check_output(OUTPUT.value, paths, JSON.value, KAGGLE.value, FACES.value)
    boxes = box_file.open_boxes(BOXES.value, FACES.value, OUTPUT.value)
    inputs.check_face_flags(paths, FACES.value, FIT.value, BOXES.value)
    options = {flag.name: flag.value for flag in (ANNOTATE, EVERY, SMOOTH, BOXES, JSON, KAGGLE)}
    of_video = video_request.make_request(paths, OUTPUT.value, options)
    results = sys.stdout
    printed = JSON.value or OUTPUT.value is None
    with contextlib.redirect_stdout(sys.stderr) if printed else contextlib.nullcontext():
        log_suppression.import_tensorflow()
        from fer.predict import predict

        settings = (FACES.value, FIT.value, TTA.value, OUTPUT.value, KAGGLE.value, boxes)
        request = predict.PredictRequest(WORKDIR.value, paths, *settings)
        if of_video:
            return predict.predict_video(request, of_video, results)
        printer = predict.JsonPrinter(results) if JSON.value else predict.LinePrinter(results) if printed else None
        predict.predict(request, printer)


if __name__ == "__main__":
    cli.run(main)
