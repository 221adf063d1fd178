"""Predicts expressions: python scripts/predict.py --workdir=DIR --input=test.csv|DIR|IMAGE --output=predictions.csv."""

from absl import flags

from fer import cli
from fer.evaluation import inference, inputs, predictions, progress, run

WORKDIR = flags.DEFINE_string("workdir", None, "Run folder that scripts/train.py wrote.", required=True)
INPUT = flags.DEFINE_string(
    "input", None, "Table with a column pixels, compressed or not, a picture, or a folder of pictures.", required=True
)
OUTPUT = flags.DEFINE_string("output", "predictions.csv", "CSV to write: id, label, name, one probability a class.")


def main() -> None:
    names, faces = inputs.read(INPUT.value)
    opened = run.open_run(WORKDIR.value)
    with progress.faces("predicting") as told:
        found = inference.predict([opened.model], faces, progress=lambda count: told(count, len(faces)))
    predictions.write_csv(OUTPUT.value, names, found.probabilities)
    print(f"{len(faces):,} faces from {INPUT.value}, {found.images_per_second:.0f} images/s")
    print(f"wrote {OUTPUT.value}")


if __name__ == "__main__":
    cli.run(main)
