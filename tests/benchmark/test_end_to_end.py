"""Tests of fer/benchmark/end_to_end.py, candidates.py and the programs in baseline_runners."""

import importlib
import json
import os
import pathlib
import sys
from unittest import mock

import numpy as np
import pytest

from fer import config, progress
from fer.augment import grammar
from fer.benchmark import candidates, end_to_end
from fer.benchmark.baseline_runners import runner
from fer.benchmark.candidates import BASELINE, FER, TORCH, Turn
from fer.errors import UserError
from fer.models import classifier
from fer.synthetic import synthetic

KERAS_CV = "Keras, tf.data and KerasCV"
TASK = runner.Task("faces.csv", "compact_s", 2, 128)


@pytest.fixture(scope="module")
def csv(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("faces") / "faces.csv")
    synthetic.write_csv(path, 300, seed=0)
    return path


@pytest.fixture
def import_runner(monkeypatch):
    """Imports a program as Python does that runs it: its folder comes first on the path."""
    monkeypatch.syspath_prepend(str(candidates.PROGRAM_FOLDER))
    return importlib.import_module


def turn(total: float, accuracy: float = 30.0, parameters: int = 1000) -> Turn:
    return Turn(total, 1.0, total - 3.0, 2.0, 2 * total, 500.0, accuracy, parameters)


def test_measure_network_returns_ratios_and_the_figures_of_every_candidate(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "STAGE_INTERVAL_S", 600.0)  # no further lines on a slow machine
    folders, totals = [], iter([10.0, 14.0])

    def fast(task, folder):
        folders.append(folder)
        assert task == TASK
        return turn(next(totals), accuracy=31.25)

    found = {FER: fast, BASELINE: lambda *_: turn(20.0), TORCH: lambda *_: turn(30.0)}
    results = end_to_end.measure_network(TASK, found, images=600, rounds=2, folder=str(tmp_path))
    by_name = {result.name: result for result in results}
    baseline = by_name[f"compact_s, {BASELINE}"]
    assert (baseline.unit, baseline.baseline) == ("images/s", None)
    ours, beside = by_name["compact_s, fer"], by_name[f"compact_s, fer, beside compact_s, {TORCH}"]
    assert (ours.baseline, beside.baseline) == (f"compact_s, {BASELINE}", f"compact_s, {TORCH}")
    for result in (ours, beside):
        assert result.ratio_low <= result.ratio <= result.ratio_high
    total = by_name["compact_s, fer, total"]
    assert (total.value, total.low, total.high, total.unit) == (12.0, 10.0, 14.0, "s")
    figures = {"read": 1.0, "train": 17.0, "evaluate": 2.0, "cpu": 40.0, "memory": 500.0, "accuracy": 30.0}
    assert {name: by_name[f"compact_s, {BASELINE}, {name}"].value for name in figures} == figures
    assert by_name["compact_s, fer, accuracy"].unit == "%"
    assert len(set(folders)) == 2
    assert all(os.path.isdir(folder) for folder in folders)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"end_to_end: round {number} of 2: compact_s, {name}" for number in (1, 2) for name in found]


def test_measure_network_rejects_networks_of_different_sizes(tmp_path):
    found = {FER: lambda *_: turn(9.0), BASELINE: lambda *_: turn(9.0, parameters=1001)}
    with pytest.raises(UserError, match=rf"compact_s, {BASELINE} has another .*1000, 1001"):
        end_to_end.measure_network(TASK, found, images=600, rounds=1, folder=str(tmp_path))


def test_find_candidates_reports_missing_pytorch(monkeypatch, capsys):
    monkeypatch.setattr(candidates, "TORCH_IMPORTS", "import no_such_package")
    assert list(candidates.find_candidates(None)) == [FER, BASELINE, KERAS_CV]
    assert "PyTorch is not measured" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"--torch_python=.* lacks pandas, scikit-learn, torch or torchvision"):
        candidates.find_candidates(sys.executable)
    monkeypatch.setattr(candidates, "TORCH_IMPORTS", "")
    assert list(candidates.find_candidates(None)) == [FER, BASELINE, KERAS_CV, TORCH]


def test_find_candidates_rejects_missing_python():
    with pytest.raises(UserError, match="Cannot start --torch_python=nowhere/python: No such file"):
        candidates.find_candidates("nowhere/python")


def test_count_training_rows_counts_training_rows(csv):
    assert candidates.count_training_rows(csv) == pathlib.Path(csv).read_text().count(",Training\n") > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("emotion,pixels\n0,1 2\n", "Usecols do not match columns.*Usage"),
        ("emotion,pixels,Usage\n0,1 2,Training\n", "Usage has no row"),
        ("", "No columns"),
    ],
    ids=["missing", "no split", "no validation", "empty"],
)
def test_count_training_rows_error_names_file(tmp_path, content, message):
    path = tmp_path / "faces.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(
        UserError, match=rf"Cannot use .*faces\.csv: {message}.*\. The suite .* needs a file like fer2013\.csv"
    ):
        candidates.count_training_rows(str(path))


PROGRAM = """
import json, os, sys, time
report, weights, *task = sys.argv[1:]
assert task == ["faces.csv", "compact_s", "2", "128"], task
assert os.path.dirname(report) == os.path.dirname(weights)
time.sleep(0.6)
content = {"train_s": 0.25, "evaluate_s": 0.125, "accuracy": 0.5, "parameters": int("PYTHONPATH" in os.environ)}
with open(report, "w") as file:
    json.dump(content, file)
"""


def test_run_program_reads_its_report(tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setattr(candidates, "PROGRAM_FOLDER", tmp_path)
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    measured = candidates.run_program(sys.executable, "program.py", TASK, str(tmp_path))
    assert (measured.train, measured.evaluate, measured.accuracy, measured.parameters) == (0.25, 0.125, 50.0, 1)
    assert measured.total > 0.6
    assert measured.read == pytest.approx(measured.total - 0.375)
    other = tmp_path / "python"
    other.symlink_to(sys.executable)
    assert candidates.run_program(str(other), "program.py", TASK, str(tmp_path)).parameters == 0


def test_settings_are_fields_of_the_configuration():
    fields = config.flatten(config.Experiment().to_dict())
    for field, value in candidates.SETTINGS.items():
        assert type(fields[field]) is type(value), field
    grammar.parse(candidates.SETTINGS["augment.policy"])


def test_runner_run_reports_the_evaluation_on_validation(csv, tmp_path, monkeypatch, capsys):
    report, validated = tmp_path / "report.json", []
    monkeypatch.setattr(sys, "argv", ["program", str(report), "weights", csv, "compact_s", "2", "128"])

    def train(task, training, validation, weights):
        assert (task, weights) == (runner.Task(csv, "compact_s", 2, 128), "weights")
        assert training.images.shape[1:] == (48, 48, 1)
        assert len(training.labels) == candidates.count_training_rows(csv)
        validated.append(len(validation.labels))
        answers = np.where(np.arange(len(validation.labels)) % 2, validation.labels, (validation.labels + 1) % 7)
        return runner.Classifier(lambda images: answers[: len(images)], parameters=12)

    runner.run(train)
    content = json.loads(report.read_text())
    assert set(content) == {"train_s", "evaluate_s", "accuracy", "parameters"}
    assert (content["accuracy"], content["parameters"]) == (validated[0] // 2 / validated[0], 12)
    assert "precision" in capsys.readouterr().out


def test_runner_read_csv_reads_the_pixels_of_a_split(csv):
    row = next(line for line in pathlib.Path(csv).read_text().splitlines() if line.endswith(",PublicTest"))
    label, pixels, _ = row.split(",")
    split = runner.read_csv(csv)["PublicTest"]
    assert split.labels[0] == int(label)
    np.testing.assert_array_equal(split.images[0].ravel(), [int(pixel) for pixel in pixels.split()])


def count_parameters(name: str) -> int:
    fields = {path.partition(".")[2]: value for path, value in candidates.SETTINGS.items() if path.startswith("model.")}
    return classifier.build(config.Model(name=name, **fields), "float32").count_params()


@pytest.mark.extended
@pytest.mark.parametrize("name", end_to_end.NETWORKS)
def test_keras_network_has_the_parameters_of_ours(import_runner, name):
    assert import_runner("keras_network").build(name).count_params() == count_parameters(name)


def test_keras_generator_runs_the_network_once_to_evaluate(import_runner, monkeypatch):
    program, network = import_runner("keras_generator"), mock.Mock()
    monkeypatch.setattr(program.keras_network, "build", lambda name: network)
    faces = runner.Split(np.zeros([2, 48, 48, 1], np.uint8), np.array([0, 1]))
    classifier = program.train(TASK, faces, faces, "weights")
    network.reset_mock()
    classifier.predict(faces.images)
    assert [call[0] for call in network.method_calls] == ["predict"]


@pytest.mark.parametrize("name", end_to_end.NETWORKS)
def test_torch_network_has_the_parameters_of_ours(import_runner, name):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra bench)")
    pytest.importorskip("torchvision", reason="torchvision is not installed (extra bench)")
    torch_loader = import_runner("torch_loader")
    network = torch_loader.NETWORKS[name]()
    assert torch_loader.count_parameters(network) == count_parameters(name)
    assert network(torch.zeros(2, 1, 48, 48)).shape == (2, 7)


@pytest.mark.extended
def test_end_to_end_suite_measures_all_candidates(csv):
    """Trains with each candidate, which takes more than a minute."""
    results = {result.name: result for result in end_to_end.measure(csv, networks=["compact_s"], rounds=1)}
    for name in candidates.find_candidates(None):
        assert results[f"compact_s, {name}"].value > 0
        stages = [results[f"compact_s, {name}, {stage}"].value for stage in ("read", "train", "evaluate")]
        assert min(stages) > 0
        assert sum(stages) == pytest.approx(results[f"compact_s, {name}, total"].value, abs=0.2)
        assert results[f"compact_s, {name}, cpu"].value > 5
        assert results[f"compact_s, {name}, memory"].value > 200
        assert 0 <= results[f"compact_s, {name}, accuracy"].value <= 100
