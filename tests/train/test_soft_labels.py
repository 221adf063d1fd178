"""Checks soft labels, those of teachers too, against values computed by hand."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Experiment, Train
from fer.convert import convert
from fer.data.sampling import Batch
from fer.errors import UserError
from fer.io import files
from fer.labels import CLASS_SETS, CLASSES, FERPLUS_COLUMNS, FERPLUS_OF_CLASS
from fer.models import loading
from fer.train import soft_labels, train_step, trainer
from tests.convert import input_factories
from tests.evaluation.factories import run as write_run
from tests.train import factories

LABELS = tf.constant([0, 6, 3, 2])
VOTES = tf.constant(
    [  # neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, no face
        [1, 0, 0, 2, 5, 1, 1, 0, 0, 0],
        [4, 0, 0, 0, 0, 0, 0, 5, 1, 0],
        [0, 10, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 2, 8],
    ]
)
SHARES = np.array(
    [  # angry, disgust, fear, happy, sad, surprise, neutral
        [0.5, 0.1, 0.1, 0, 0.2, 0, 0.1],
        [0, 0, 0, 0, 0, 0, 1],  # contempt is ignored
        [0, 0, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 0],  # no votes for the seven classes: the label
    ]
)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("fer", np.eye(7)[LABELS]), ("ferplus", SHARES), ("mixture", (np.eye(7)[LABELS] + SHARES) / 2)],
)
def test_soft_targets_match_the_configured_kind(kind, expected):
    np.testing.assert_allclose(soft_labels.soft_targets(LABELS, VOTES, kind, CLASSES), expected, atol=1e-7)


def test_soft_targets_count_votes_for_contempt_when_it_is_a_class():
    found = soft_labels.soft_targets(LABELS, VOTES, "ferplus", CLASS_SETS["ferplus"]).numpy()
    np.testing.assert_allclose(found[0], [0.1, 0, 0, 0.2, 0.5, 0.1, 0.1, 0], atol=1e-7)
    np.testing.assert_allclose(found[1], [4 / 9, 0, 0, 0, 0, 0, 0, 5 / 9], atol=1e-7)


def make_batch(labels: list[int], votes: list[list[int]]) -> Batch:
    """Makes a batch of black faces with labels and votes."""
    count = len(labels)
    return Batch(tf.zeros([count, 48, 48, 1], tf.uint8), tf.constant(labels), tf.range(count), tf.constant(votes))


def test_vote_posterior_matches_label_frequencies():
    """Ten votes for neutral come with that label in 60 % of the rows; ten votes for fear come with theirs in 20 %."""
    neutral, fear = [10, *[0] * 9], [0] * 6 + [10, 0, 0, 0]
    labels = [6] * 600 + [4] * 300 + [2] * 100 + [2] * 200 + [5] * 500 + [6] * 300
    rows = [neutral] * 1000 + [fear] * 1000
    halves = [make_batch(labels[part::2], rows[part::2]) for part in (0, 1)]
    found = soft_labels.fit_vote_posterior(halves, 7).probabilities(tf.constant([neutral, fear])).numpy()
    expected = [[0, 0, 0.1, 0, 0.3, 0, 0.6], [0, 0, 0.2, 0, 0, 0.5, 0.3]]
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize("present", [(0, 6), (1, 3, 5)])
def test_vote_posterior_is_zero_for_labels_absent_from_split(present):
    labels, rows = list(present) * 20, [VOTES[index].numpy().tolist() for index in range(len(present))] * 20
    found = soft_labels.fit_vote_posterior([make_batch(labels, rows)], 7).probabilities(VOTES).numpy()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert set(np.flatnonzero(found.sum(axis=0))) == set(present)
    assert (found[range(len(present)), present] > 0.9).all()  # each label has votes of its own


def test_vote_posterior_of_a_split_with_one_class_is_certain_of_it():
    found = soft_labels.fit_vote_posterior([make_batch([3, 3], VOTES.numpy()[:2].tolist())], 7).probabilities(VOTES)
    np.testing.assert_array_equal(found, np.eye(7, dtype=np.float32)[[3] * len(VOTES)])


def test_soft_targets_average_label_and_posterior():
    posterior = soft_labels.fit_vote_posterior([make_batch(LABELS.numpy().tolist(), VOTES.numpy().tolist())], 7)
    found = soft_labels.soft_targets(LABELS, VOTES, "posterior", CLASSES, posterior)
    np.testing.assert_allclose(found, (np.eye(7)[LABELS] + posterior.probabilities(VOTES)) / 2, atol=1e-6)
    np.testing.assert_array_equal(
        soft_labels.soft_targets(LABELS, VOTES, "ferplus", CLASSES, posterior),
        soft_labels.soft_targets(LABELS, VOTES, "ferplus", CLASSES),
    )


@pytest.mark.extended
def test_run_uses_posterior_of_its_split_and_resumes_to_same_bits(tmp_path):
    """If the posterior were not used, the weights would equal those of targets "fer"."""
    count, data = 96, str(tmp_path / "shards")
    votes = np.random.default_rng(0).multinomial(5, [0.1] * 10, count)
    # The labels of input_factories.make_csv.
    columns = [FERPLUS_COLUMNS.index(FERPLUS_OF_CLASS[row % 7]) for row in range(count)]
    votes[np.arange(count), columns] += 5
    lines = [
        f"{input_factories.USAGES[row % 3]},fer{row:07d}.png," + ",".join(map(str, counts))
        for row, counts in enumerate(votes)
    ]
    header = "Usage,Image name," + ",".join(FERPLUS_COLUMNS)
    ferplus = input_factories.write_file(tmp_path / "votes.csv", "\n".join([header, *lines, ""]))
    source = input_factories.write_file(tmp_path / "faces.csv", input_factories.make_csv(input_factories.noise(count)))
    convert.convert(convert.Options(input=source, output=data, ferplus=ferplus))

    def train(kind: str) -> None:
        trainer.train(
            factories.experiment(label_source=kind, global_batch_size=32, ema_decay=0.0),
            data,
            str(tmp_path / kind),
            "one",
        )

    for kind in ("fer", "posterior"):
        train(kind)
    final_states = [factories.final_state(tmp_path / kind, 4) for kind in ("fer", "posterior")]
    assert any((final_states[0][name] != final_states[1][name]).any() for name in final_states[0])
    shutil.rmtree(tmp_path / "posterior" / "checkpoints" / "step-00000004")
    trainer.train(
        factories.experiment(label_source="posterior", global_batch_size=32, ema_decay=0.0),
        data,
        str(tmp_path / "posterior"),
        "one",
    )
    for name, value in factories.final_state(tmp_path / "posterior", 4).items():
        np.testing.assert_array_equal(value, final_states[1][name], err_msg=name)


def test_prepare_inputs_returns_soft_targets():
    settings = factories.experiment(label_source="ferplus", global_batch_size=4)
    settings.augment.policy = "none"
    batch = Batch(tf.zeros([4, 48, 48, 1], tf.uint8), LABELS, tf.range(4), VOTES)
    context = train_step.StepContext(tf.distribute.get_strategy(), None, settings)  # the state is not used
    inputs = train_step.prepare_inputs(context, batch, tf.constant([0, 0]))
    np.testing.assert_allclose(inputs.targets, SHARES, atol=1e-7)


@pytest.mark.parametrize("mixup", [True, False])
@pytest.mark.parametrize(("kind", "voted"), [("fer", 0), ("ferplus", 1)])
def test_prepare_inputs_counts_accuracy_against_the_label_of_the_prevailing_image(mixup, kind, voted):
    """All raters vote for the class that follows the label by `voted` places."""
    settings = factories.experiment(global_batch_size=64, label_source=kind)
    settings.augment.policy = "mixup(alpha=0.2)"
    labels = tf.range(64) % 7
    columns = [FERPLUS_COLUMNS.index(FERPLUS_OF_CLASS[(label + voted) % 7]) for label in labels.numpy()]
    votes = tf.one_hot(columns, 10, on_value=10, off_value=0, dtype=tf.int32)
    batch = Batch(tf.zeros([64, 48, 48, 1], tf.uint8), labels, tf.range(64), votes)
    context = train_step.StepContext(tf.distribute.get_strategy(), None, settings, mixup=mixup)
    inputs = train_step.prepare_inputs(context, batch, tf.constant([0, 0]))
    assert inputs.targets.shape == (64, 7)
    np.testing.assert_array_equal(inputs.labels, (inputs.targets.numpy().argmax(axis=1) - voted) % 7)
    changed = (inputs.labels.numpy() != labels.numpy()).mean()
    assert 0.2 < changed < 0.7 if mixup else changed == 0


def test_train_raises_user_error_when_shards_hold_no_votes(synthetic_shards, tmp_path):
    settings = factories.experiment(label_source="mixture")
    with pytest.raises(UserError, match=r"label_source is 'mixture', but the shards in .* hold no votes of FER\+"):
        trainer.train(settings, synthetic_shards.folder, str(tmp_path / "run"), "one")
    assert not (tmp_path / "run").exists()


def test_check_votes_accepts_shards_with_votes(synthetic_shards):
    options = {**synthetic_shards.raw["options"], "ferplus": "fer2013new.csv"}
    soft_labels.check_votes(
        dataclasses.replace(synthetic_shards, raw={**synthetic_shards.raw, "options": options}), "ferplus"
    )


IMAGES = tf.constant(np.random.default_rng(0).integers(0, 256, [5, 48, 48, 1], np.uint8))
TARGETS = tf.one_hot([0, 1, 2, 3, 6], 7)


@pytest.fixture(scope="module")
def runs(synthetic_shards, tmp_path_factory) -> list[str]:
    """Returns the run directories of two networks with different seeds."""
    folder = tmp_path_factory.mktemp("teachers")
    return [write_run(folder / f"seed{seed}", seed, factories.experiment()) for seed in (0, 1)]


@pytest.fixture(scope="module")
def student(runs, synthetic_shards, tmp_path_factory) -> tuple[Experiment, pathlib.Path]:
    """Returns settings and directory of a run of four steps with the first teacher and checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("student") / "run"
    settings = factories.experiment(teacher_runs=runs[0], save_every_steps=2, max_steps=4, ema_decay=0.0)
    trainer.train(settings, synthetic_shards.folder, str(folder), "one")
    return settings, folder


def test_make_distill_fn_mixes_labels_with_mean_teacher_probabilities(runs, synthetic_shards):
    teachers = soft_labels.load_teachers(Train(teacher_runs=", ".join(runs), precision="float32"), synthetic_shards)
    found = soft_labels.make_distill_fn(teachers, 0.25)(IMAGES, TARGETS).numpy()
    logits = [loading.open_folder(run).model(IMAGES).numpy().astype(np.float64) for run in runs]
    assert not np.allclose(*logits)
    teacher_mean = np.mean([np.exp(each) / np.exp(each).sum(axis=1, keepdims=True) for each in logits], axis=0)
    np.testing.assert_allclose(found, 0.75 * TARGETS.numpy() + 0.25 * teacher_mean, atol=1e-5)
    assert soft_labels.make_distill_fn([], 0.25) is None


def test_distillation_moves_student_to_its_teacher_when_teacher_share_is_one(runs, synthetic_shards, tmp_path):
    """The teacher has random weights, so its predictions differ from the labels."""
    options = {"teacher_runs": runs[0], "distill_weight": 1.0, "label_smoothing": 0.0, "ema_decay": 0.0}
    settings = factories.experiment(global_batch_size=8, max_steps=40, save_every_steps=100, **options)
    settings.optimizer.learning_rate = 0.05
    trainer.train(settings, synthetic_shards.folder, str(tmp_path / "student"), "one")
    teacher, unrelated, student = (loading.open_folder(run).model for run in (*runs, str(tmp_path / "student")))

    def divergence(one: tf.keras.Model, other: tf.keras.Model) -> float:
        return float(tf.reduce_mean(tf.keras.losses.kl_divergence(*(tf.nn.softmax(m(IMAGES)) for m in (one, other)))))

    assert divergence(teacher, student) < divergence(teacher, unrelated) / 2


def test_record_holds_hash_of_teacher_weights_and_train_rejects_others(runs, student, synthetic_shards, tmp_path):
    settings, folder = student
    best, record = (files.read_json(f"{place}.json", "it") for place in (f"{runs[0]}/best", f"{folder}/config"))
    assert [entry["weights_sha256"] for entry in record["teachers"]] == [best["sha256"]]
    assert [entry["began_with"] for entry in record["teachers"]] == ["none"]
    other = shutil.copytree(folder, tmp_path / "other")
    record["teachers"][0]["weights_sha256"] = files.read_json(f"{runs[1]}/best.json", "best")["sha256"]
    (other / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="started with other weights in the folders of"):
        trainer.train(settings, synthetic_shards.folder, str(other), "one")


def test_teacher_without_weights_raises_user_error_and_leaves_nothing(synthetic_shards, tmp_path):
    settings = factories.experiment(teacher_runs=str(tmp_path / "nobody"))
    with pytest.raises(UserError, match=r"^config\.train\.teacher_runs: .*nobody holds no best\.json: train first"):
        trainer.train(settings, synthetic_shards.folder, str(tmp_path / "student"), "one")
    assert not (tmp_path / "student").exists()


@pytest.mark.extended
def test_run_with_teacher_resumes_to_same_weights_after_kill(student, synthetic_shards, tmp_path, capsys):
    (settings, uninterrupted), resumed = student, str(tmp_path / "resumed")
    shutil.copytree(uninterrupted, resumed)
    shutil.rmtree(f"{resumed}/checkpoints/step-{4:08d}")
    trainer.train(settings, synthetic_shards.folder, resumed, "one")
    assert "Resuming after step 2 of 4" in capsys.readouterr().out
    assert files.read_json(f"{resumed}/best.json", "best") == files.read_json(f"{uninterrupted}/best.json", "best")


def test_check_votes_error_names_class_without_votes(synthetic_shards):
    raw = {**synthetic_shards.raw, "options": {**synthetic_shards.raw["options"], "ferplus": "fer2013new.csv"}}
    shards = dataclasses.replace(synthetic_shards, raw=raw, classes=("happy", "bored"))
    soft_labels.check_votes(shards, "posterior")
    with pytest.raises(UserError, match="FER\\+ has no votes for the class 'bored'"):
        soft_labels.check_votes(shards, "mixture")


def test_check_votes_rejects_posterior_of_labels_that_are_votes(synthetic_shards):
    raw = synthetic_shards.raw
    audit = {**raw["audit"], "ferplus_labels": {"rule": "", "left_out": {}}}
    raw = {**raw, "audit": audit, "options": {**raw["options"], "ferplus": "fer2013new.csv"}}
    shards = dataclasses.replace(synthetic_shards, raw=raw, classes=CLASS_SETS["ferplus"])
    soft_labels.check_votes(shards, "ferplus")
    with pytest.raises(UserError, match="are the majority of the votes, so that the votes hold no other label"):
        soft_labels.check_votes(shards, "posterior")


def test_load_teachers_rejects_teacher_with_other_classes(synthetic_shards, tmp_path):
    teacher = write_run(tmp_path / "teacher", 0, factories.experiment(), ("bored", "happy"))
    with pytest.raises(
        UserError, match=r"config.train.teacher_runs: .*teacher has the classes bored, happy, and .* has "
    ):
        soft_labels.load_teachers(Train(teacher_runs=teacher, precision="float32"), synthetic_shards)
