"""Tests of `fer.evaluation.eval_json`: only content that matches the schema is written or read."""

import copy
import json

import jsonschema
import numpy as np
import pytest

from fer import labels
from fer.config import Experiment, Model, Train
from fer.data.manifest import Manifest, Split
from fer.errors import UserError
from fer.evaluation import eval_json
from fer.evaluation.metrics import metrics
from fer.labels import CLASSES
from fer.models.loading import LoadedRun
from tests.evaluation import factories

# Programs of users read these keys: they may not change.
FIELDS = [
    "schema_version",
    "model",
    "parameters",
    "split",
    "examples",
    "accuracy",
    "accuracy_ci95",
    "balanced_accuracy",
    "macro_f1",
    "cohen_kappa",
    "matthews",
    "log_loss",
    "brier",
    "ece",
    "per_class",
    "classes",
    "confusion_matrix",
    "images_per_second",
    "protocol",
    "data",
    "config_sha256",
    "checkpoint_step",
    "versions",
]


def run(name: str = "compact", precision: str = "float32", parameters: int = 1000) -> LoadedRun:
    """Returns a run without its model."""
    experiment = Experiment(model=Model(name=name), train=Train(precision=precision))
    return LoadedRun(
        workdir=f"runs/{name}",
        config=experiment,
        recorded=experiment.to_dict(),
        config_sha256=experiment.sha256(),
        model=None,
        parameters=parameters,
        precision=precision,
        step=12,
        selected_on="validation",
        weights_sha256="a" * 64,
        trained_on=factories.TRAINED_ON,
        classes=CLASSES,
    )


def build(*runs: LoadedRun, classes: tuple[str, ...] = CLASSES) -> dict:
    """Builds eval.json of perfect predictions for eight faces by some runs, or by one."""
    true = np.array([0, 1, 2, 3, 4, 5, 6, 3]) % len(classes)
    probabilities = 0.35 / len(classes) + 0.65 * np.eye(len(classes))[true]
    figures = metrics.compute_metrics(true, probabilities, classes)
    splits = {name: Split(name, examples, {}, ()) for name, examples in {"validation": 9, "test": 4}.items()}
    manifest = Manifest("shards", "faces", classes, splits, {}, "b" * 64, {})
    return eval_json.build(
        [eval_json.describe_member(each) for each in runs or (run(),)],
        manifest,
        eval_json.Protocol("validation", tta="flip", labels="ferplus", num_unlabelled=1),
        {**figures, "calibration": None, "excluding_train_duplicates": None, "accuracy_by_agreement": None},
        images_per_second=321.5,
    )


def test_schema_requires_every_documented_field():
    content = build()
    for field in FIELDS:
        less = {name: value for name, value in content.items() if name != field}
        with pytest.raises(jsonschema.ValidationError, match=f"'{field}' is a required property"):
            eval_json.write_eval("nowhere/eval.json", less)


def test_eval_json_round_trips(tmp_path):
    path = str(tmp_path / "eval.json")
    eval_json.write_eval(path, build())
    assert eval_json.read_eval(path) == json.loads((tmp_path / "eval.json").read_text()) == build()


def test_schema_allows_the_classes_that_manifests_allow():
    schema = eval_json._validator().schema
    classes, name = schema["properties"]["classes"], schema["$defs"]["class"]
    assert (classes["minItems"], classes["maxItems"]) == (labels.MIN_CLASSES, labels.MAX_CLASSES)
    assert name["maxLength"] == labels.MAX_NAME_LENGTH


@pytest.mark.parametrize("count", [2, 3, 100])
def test_write_eval_accepts_own_classes(count, tmp_path):
    classes = tuple(f"class <{number}>" for number in range(count))
    eval_json.write_eval(str(tmp_path / "eval.json"), build(classes=classes))
    content = eval_json.read_eval(str(tmp_path / "eval.json"))
    assert (content["classes"], list(content["per_class"])) == (list(classes), list(classes))
    assert np.shape(content["confusion_matrix"]) == (count, count)


def test_schema_is_valid():
    jsonschema.Draft202012Validator.check_schema(eval_json._validator().schema)


def test_build_records_config_and_step_of_single_run():
    content = build()
    assert (content["config_sha256"], content["checkpoint_step"]) == (run().config_sha256, 12)


def test_build_sums_parameters_and_lists_members_of_ensemble():
    content = build(run(), run("inception_v3", "mixed_bfloat16", 500))
    assert (content["model"], content["parameters"]) == ("compact + inception_v3", 1500)
    assert [one["model"] for one in content["protocol"]["members"]] == ["compact", "inception_v3"]
    assert content["protocol"]["precision"] == "float32, mixed_bfloat16"
    assert content["protocol"]["selected_on"] == "validation"


def test_build_records_no_config_or_step_for_ensemble(tmp_path):
    content = build(run(), run("inception_v3"))
    eval_json.write_eval(str(tmp_path / "eval.json"), content)
    assert content["config_sha256"] is content["checkpoint_step"] is None


def test_protocol_records_tta_labels_and_unlabelled_examples():
    protocol = build()["protocol"]
    assert (protocol["tta"], protocol["labels"], protocol["num_unlabelled"]) == ("flip", "ferplus", 1)


def test_build_records_hash_and_sizes_of_data():
    expected = {"name": "faces", "manifest_sha256": "b" * 64, "examples_per_split": {"validation": 9, "test": 4}}
    assert build()["data"] == expected


def invalid(*path, value) -> dict:
    """Builds eval.json with one value replaced."""
    content = copy.deepcopy(build())
    inner = content
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return content


@pytest.mark.parametrize(
    "content",
    [
        invalid("accuracy", value=69.8),
        invalid("acuracy", value=0.7),
        invalid("schema_version", value=3),
        invalid("classes", value=list(CLASSES[:6])),
        invalid("classes", value=[*CLASSES[:6], "angry"]),
        invalid("confusion_matrix", value=[[1, 2], [3, 4]]),
        invalid("confusion_matrix", value=[[1]]),
        invalid("confusion_matrix", 0, 0, value=1.5),
        invalid("per_class", "angry", "roc_auc", value="high"),
        invalid("per_class", "anger", value=None),
        invalid("protocol", "tta", value="rotate"),
        invalid("protocol", "members", value=[]),
        invalid("data", "manifest_sha256", value="unknown"),
        invalid("examples", value=0),
    ],
    ids=lambda content: "",
)
def test_invalid_eval_json_is_neither_written_nor_read(content, tmp_path):
    path = tmp_path / "eval.json"
    with pytest.raises(jsonschema.ValidationError):
        eval_json.write_eval(str(path), content)
    assert not path.exists()
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"eval\.json is no eval\.json of this version"):
        eval_json.read_eval(str(path))


def test_read_eval_renames_keys_of_schema_version_1(tmp_path):
    content = build()
    content["protocol"]["members"][0]["source_eval"] = "runs/a"
    scores = {name: content[name] for name in ("accuracy", "accuracy_ci95", "macro_f1")}
    content["excluding_train_duplicates"] = {"examples": 8, "num_duplicates": 1, "accuracy_difference": 0.1, **scores}
    content["accuracy_by_agreement"] = [{"votes": 9, "examples": 9, "accuracy": 0.5}]
    old = copy.deepcopy(content)
    old["schema_version"] = 1
    old["by_agreement"] = old.pop("accuracy_by_agreement")
    old["without_training_images"] = old.pop("excluding_train_duplicates")
    old["without_training_images"]["left_out"] = old["without_training_images"].pop("num_duplicates")
    old["protocol"]["left_out"] = old["protocol"].pop("num_unlabelled")
    member = old["protocol"]["members"][0]
    member["kept"] = member.pop("source_eval")
    learned = member["learned_from"]
    member["learned_from"] = {
        "weights": learned["weights"],
        "targets": learned["label_source"],
        "teacher": learned["teacher_runs"],
    }
    path = tmp_path / "eval.json"
    path.write_text(json.dumps(old))
    assert eval_json.read_eval(str(path)) == content


def test_write_eval_rejects_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        eval_json.write_eval(str(tmp_path / "eval.json"), {**build(), "images_per_second": float("nan")})
    assert not list(tmp_path.iterdir())


def test_summary_line_states_accuracy_interval_and_protocol():
    summary = eval_json.summary_line(build())
    assert "accuracy 100.00 % (95 % CI 67.56-100.00)" in summary
    assert "labels ferplus (1 without label), test-time augmentation flip, 1 model(s)" in summary


@pytest.mark.parametrize(("averaged", "expected"), [([], False), (["one"], False), (["one", "evaluated"], True)])
def test_is_training_data_includes_the_runs_of_a_soup(averaged, expected):
    runs = [{"trained_on": {"name": "faces", "manifest_sha256": each}} for each in averaged]
    member = {"trained_on": {"manifest_sha256": "other"}, "learned_from": {"averaged": runs}}
    content = {"data": {"manifest_sha256": "evaluated"}, "protocol": {"members": [member]}}
    assert eval_json.is_training_data(content) is expected


@pytest.mark.parametrize(("shards", "expected"), [(["other", "other"], False), (["other", "evaluated"], True)])
def test_is_training_data_holds_when_one_member_was_trained_on_the_evaluated_shards(shards, expected):
    members = [{"trained_on": {"manifest_sha256": each}} for each in shards]
    content = {"data": {"manifest_sha256": "evaluated"}, "protocol": {"members": members}}
    assert eval_json.is_training_data(content) is expected
