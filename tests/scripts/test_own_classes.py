"""The whole way with three classes of one's own, with the programs and the API as a new user calls them."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

import fer
from fer.labels import CLASSES
from tests.scripts import run_script

OWN = ("amazed", "cheerful & <b>", "gloomy")  # in the order of the folders


@pytest.fixture(scope="module")
def folder(synthetic_shards, tmp_path_factory) -> pathlib.Path:
    """Writes faces of three expressions into class folders."""
    folder = tmp_path_factory.mktemp("own")
    images, labels = fer.open_dataset(synthetic_shards.folder, "train").arrays()
    for name, label in zip(OWN, ("surprise", "happy", "sad")):
        (folder / "faces" / name).mkdir(parents=True)
        for position in np.flatnonzero(labels == CLASSES.index(label)):
            Image.fromarray(images[position, ..., 0]).save(folder / "faces" / name / f"{position}.png")
    return folder


def run(folder: pathlib.Path, name: str, *arguments: str) -> str:
    """Runs a script that must succeed, and returns its output."""
    done = run_script.run(name, folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.extended
def test_programs_and_api_take_the_classes_of_class_folders(folder):
    run(folder, "convert.py", "--input=faces", "--classes=folders", "--output=data")
    config = folder / "config.py"
    config.write_text(
        "from fer.config import Experiment, Model, Train\n"
        "def get_config():\n"
        "    train = Train(global_batch_size=16, precision='float32', max_steps=12, save_every_steps=4)\n"
        "    return Experiment(model=Model(name='tiny', image_size=24), train=train)\n"
    )
    train = ("train.py", "--config=config.py", "--data=data", "--strategy=one")
    assert "The best weights" in run(folder, *train, "--workdir=run")
    assert json.loads((folder / "run" / "config.json").read_text())["classes"] == list(OWN)
    run(folder, "evaluate.py", "--workdir=run", "--data=data")
    run(folder, "evaluate.py", "--workdir=run", "--data=data", "--tta=flip")
    content = json.loads((folder / "run" / "eval.json").read_text())
    assert (content["classes"], list(content["per_class"])) == (list(OWN), list(OWN))
    assert "FER-2013" not in (folder / "run" / "report.html").read_text()
    run(folder, "predict.py", "--workdir=run", f"--input=faces/{OWN[0]}", "--output=predictions.csv")
    assert (folder / "predictions.csv").read_text().startswith(f"id,label,name,{','.join(OWN)}\n")
    run(folder, "export.py", "--workdir=run", "--data=data", "--format=saved_model", "--output=exports")
    run(folder, "evaluate.py", "--workdir=exports", "--data=data", "--output=exported")
    exported = json.loads((folder / "exported" / "eval.json").read_text())
    assert exported["confusion_matrix"] == content["confusion_matrix"]
    run(folder, "compare.py", "--evals=run/eval.json,exported/eval.json", "--output=comparison")
    assert json.loads((folder / "comparison" / "comparison.json").read_text())["published"] == []
    images, labels = fer.open_dataset(folder / "data", "validation").arrays()
    for workdir in ("run", "exports"):
        model = fer.load(folder / workdir)
        figures = fer.evaluate(labels, model.predict_faces(images), model.classes)
        assert (figures["classes"], figures["accuracy"]) == (list(OWN), pytest.approx(content["accuracy"]))


@pytest.mark.extended
def test_train_from_a_run_with_other_classes_prints_that_the_head_is_new(folder, synthetic_shards, trained_run):
    """Uses the class folders of the first test's input, converted anew."""
    run(folder, "convert.py", "--input=faces", "--classes=folders", "--output=fine-tuning-data")
    config, command = f"--config={trained_run}.py", ("--strategy=one", "--config.train.max_steps=2")
    arguments = (config, "--data=fine-tuning-data", *command, f"--init_from={trained_run}", "--workdir=fine-tuned")
    printed = run(folder, "train.py", *arguments)
    assert f"The head is new: {trained_run} has the classes angry, disgust" in printed
    resumed = run(folder, "train.py", *arguments)
    assert "is complete" in resumed
    assert "The head is new" not in resumed
