"""Tests of model soups: the selection on made-up runs, and the run directory of a mean of tiny networks."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from fer.config import Model
from fer.errors import UserError
from fer.evaluation import evaluate
from fer.evaluation.eval_options import EvalRequest
from fer.export import model_card, model_soup
from fer.models import loading
from fer.run_dir import RunDir, check_run_dir
from tests.evaluation import factories

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("soup")
    factories.runs_to_average(folder, NAMES)
    return folder


@pytest.fixture(scope="module")
def soup(folder) -> model_soup.Soup:
    return model_soup.make_soup([str(folder / name) for name in NAMES], str(folder / "faces"), str(folder / "soup"))


def make_correct(accuracies: dict[tuple[int, ...], float], count: int = 1000) -> model_soup.Correct:
    """Returns a `Correct` of given accuracies whose right examples are spread evenly."""
    return lambda members: np.arange(count) % 100 < 100 * accuracies[members]


def test_choose_members_adds_runs_that_do_not_lower_accuracy():
    accuracies = {(0,): 0.5, (1,): 0.7, (2,): 0.6, (1, 2): 0.7, (0, 1, 2): 0.69}
    assert model_soup.choose_members(make_correct(accuracies), 3, np.arange(1000)) == (1, 2)


def test_choose_members_selects_on_given_examples_only():
    first = np.arange(100) < 50
    correct = {(0,): first, (1,): ~first, (0, 1): np.zeros(100, bool)}
    assert model_soup.choose_members(correct.__getitem__, 2, np.arange(50)) == (0,)
    assert model_soup.choose_members(correct.__getitem__, 2, np.arange(50, 100)) == (1,)


def test_cross_validate_equals_accuracy_when_the_selection_is_fixed():
    correct = make_correct({(0,): 0.63})
    assert model_soup.cross_validate(correct, 1000, lambda examples: (0,)) == pytest.approx(0.63)


def test_cross_validate_does_not_reward_selection_among_guesses():
    """The best of 50 runs that guess is above chance on the examples that select it, not on the others."""
    guesses = np.random.default_rng(0).random((50, 2000)) < 0.5

    def correct(members: tuple[int, ...]) -> np.ndarray:
        return guesses[members[0]]

    def choose(examples: np.ndarray) -> tuple[int, ...]:
        return (int(guesses[:, examples].mean(axis=1).argmax()),)

    assert guesses.mean(axis=1).max() > 0.52
    assert model_soup.cross_validate(correct, 2000, choose) == pytest.approx(0.5, abs=0.02)


def test_soup_weights_are_the_mean_of_the_chosen_runs(soup, folder):
    found = loading.open_run(str(folder / "soup")).model.get_weights()
    expected = factories.mean_weights(folder, [NAMES[member] for member in soup.members])
    for array, mean in zip(found, expected):
        np.testing.assert_allclose(array, mean, atol=1e-7)


def test_soup_accuracy_is_that_of_its_evaluation(soup, folder):
    content = evaluate.evaluate(EvalRequest([str(folder / "soup")], str(folder / "faces"))).content
    assert content["accuracy"] == pytest.approx(soup.accuracy)
    assert soup.accuracy == 0.9
    assert max(soup.accuracies) < 0.9
    averaged = content["protocol"]["members"][0]["learned_from"]["averaged"]
    assert [each["run"] for each in averaged] == [str(folder / NAMES[member]) for member in soup.members]


def test_soup_config_is_that_of_its_first_run_with_records_of_all(soup, folder):
    first = folder / NAMES[soup.members[0]]
    content = json.loads((folder / "soup" / "config.json").read_text())
    assert {**json.loads((first / "config.json").read_text()), "averaged": content["averaged"]} == content
    recorded = json.loads((folder / "soup" / "soup.json").read_text())
    assert recorded["cross_validated"] == soup.cross_validated
    assert [each["averaged"] for each in recorded["runs"]] == [member in soup.members for member in range(len(NAMES))]
    hashes = [RunDir(str(folder / NAMES[member])).read_best().sha256 for member in soup.members]
    assert [each["weights_sha256"] for each in content["averaged"]] == hashes


def test_model_card_names_the_averaged_runs(folder):
    content = json.loads((folder / "a" / "config.json").read_text())
    recorded = loading.open_run(str(folder / "b")).as_initial_run()
    (folder / "card").mkdir()
    (folder / "card" / "config.json").write_text(json.dumps({**content, "averaged": [recorded, recorded]}))
    text = model_card.build_card(
        evaluate.evaluate(EvalRequest([str(folder / "a")], str(folder / "faces"))).content,
        RunDir(str(folder / "card")).read_config(),
    )
    assert "mean of those of 2 runs" in text
    assert recorded["weights_sha256"] in text


def test_training_rejects_the_run_directory_of_a_soup(soup, folder, synthetic_shards):
    found = RunDir(str(folder / "soup"))
    recorded = found.read_config()
    with pytest.raises(UserError, match="belongs to a model soup, which training does not continue"):
        check_run_dir(found, recorded, recorded.experiment, synthetic_shards)


def test_make_soup_rejects_another_architecture_and_names_field(folder):
    other = dataclasses.replace(factories.EXPERIMENT, model=Model(name="tiny", image_size=32))
    factories.run(folder / "larger", seed=9, experiment=other)
    with pytest.raises(UserError, match=r"a and .*larger have different architectures \(model.image_size: 24 -> 32\)"):
        model_soup.make_soup(
            [str(folder / "a"), str(folder / "larger")], str(folder / "faces"), str(folder / "rejected")
        )
    assert not (folder / "rejected").exists()


def test_make_soup_rejects_existing_output(folder):
    with pytest.raises(UserError, match="exists and is not empty"):
        model_soup.make_soup([str(folder / "a"), str(folder / "b")], str(folder / "faces"), str(folder / "a"))


def test_make_soup_rejects_exports(export_folder, folder):
    with pytest.raises(UserError, match="is an export, and a model soup needs the weights"):
        model_soup.make_soup(
            [str(folder / "a"), str(export_folder / "exports")], str(folder / "faces"), str(folder / "rejected")
        )


def test_make_soup_writes_nothing_when_one_run_is_the_most_accurate(folder):
    shards = folder / "labels-of-a" / factories.TRAINED_ON["name"]
    images = factories.images(20)
    labels = loading.open_run(str(folder / "a")).model.predict_on_batch(images).argmax(axis=1)
    factories.shards(shards, {"validation": (images, labels)})
    with pytest.raises(UserError, match=r"No mean of these runs is as accurate as .*a alone \(100.00 % on"):
        model_soup.make_soup([str(folder / "a"), str(folder / "c")], str(shards), str(folder / "nothing"))
    assert not (folder / "nothing").exists()


def test_uniform_soup_averages_all_runs(folder):
    runs = [str(folder / name) for name in NAMES]
    soup = model_soup.make_soup(runs, str(folder / "faces"), str(folder / "uniform"), "uniform")
    assert sorted(soup.members) == [0, 1, 2]
    assert soup.cross_validated == pytest.approx(soup.accuracy)  # nothing is selected
    found = loading.open_run(str(folder / "uniform")).model.get_weights()
    for array, mean in zip(found, factories.mean_weights(folder, NAMES)):
        np.testing.assert_allclose(array, mean, atol=1e-7)
