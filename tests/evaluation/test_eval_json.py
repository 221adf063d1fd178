"""eval.json is what its schema says, and nothing else is written or read."""

import copy
import json
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest

from fer.config import Experiment, Model, Train
from fer.errors import UserError
from fer.evaluation import eval_json
from fer.evaluation.metrics import metrics
from fer.labels import CLASSES
from tests.evaluation import factories

# Users' programs read these names: they may not change.
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


def member(name: str = "compact", precision: str = "float32", parameters: int = 1000) -> SimpleNamespace:
    return SimpleNamespace(
        workdir=f"runs/{name}",
        config=Experiment(model=Model(name=name), train=Train(precision=precision)),
        config_sha256=Experiment(model=Model(name=name), train=Train(precision=precision)).sha256(),
        parameters=parameters,
        precision=precision,
        step=12,
        selected_on="validation",
        weights_sha256="a" * 64,
        trained_on=factories.TRAINED_ON,
        export=None,
    )


def built(*members: SimpleNamespace) -> dict:
    labels = np.array([0, 1, 2, 3, 4, 5, 6, 3])
    figures = metrics.measure(labels, np.full((8, 7), 0.05) + 0.65 * np.eye(7)[labels])
    manifest = SimpleNamespace(
        name="faces",
        sha256="b" * 64,
        splits={"validation": SimpleNamespace(examples=9), "test": SimpleNamespace(examples=4)},
    )
    return eval_json.build(
        [eval_json.member(each) for each in members or (member(),)],
        manifest,
        "validation",
        {**figures, "calibration": None, "without_training_images": None, "by_agreement": None},
        images_per_second=321.5,
        tta="flip",
        labels="ferplus",
        left_out=1,
    )


def test_schema_requires_every_documented_field():
    content = built()
    for field in FIELDS:
        less = {name: value for name, value in content.items() if name != field}
        with pytest.raises(jsonschema.ValidationError, match=f"'{field}' is a required property"):
            eval_json.write_eval("nowhere/eval.json", less)


def test_eval_json_file_holds_what_was_built(tmp_path):
    path = str(tmp_path / "eval.json")
    eval_json.write_eval(path, built())
    assert eval_json.read_eval(path) == json.loads((tmp_path / "eval.json").read_text()) == built()


def test_schema_lists_classes_in_label_order():
    assert eval_json._validator().schema["properties"]["classes"]["const"] == list(CLASSES)


def test_schema_is_valid():
    jsonschema.Draft202012Validator.check_schema(eval_json._validator().schema)


def test_eval_json_of_a_run_names_config_and_step():
    content = built()
    assert (content["config_sha256"], content["checkpoint_step"]) == (member().config_sha256, 12)


def test_eval_json_of_an_ensemble_sums_parameters_and_lists_members():
    content = built(member(), member("inception_v3", "mixed_bfloat16", 500))
    assert (content["model"], content["parameters"]) == ("compact + inception_v3", 1500)
    assert [one["model"] for one in content["protocol"]["members"]] == ["compact", "inception_v3"]
    assert content["protocol"]["precision"] == "float32, mixed_bfloat16"
    assert content["protocol"]["selected_on"] == "validation"


def test_eval_json_of_an_ensemble_has_no_single_config_or_step(tmp_path):
    content = built(member(), member("inception_v3"))
    eval_json.write_eval(str(tmp_path / "eval.json"), content)
    assert content["config_sha256"] is content["checkpoint_step"] is None


def test_protocol_records_selection_tta_and_precision():
    protocol = built()["protocol"]
    assert (protocol["tta"], protocol["labels"], protocol["left_out"]) == ("flip", "ferplus", 1)


def test_eval_json_names_data_by_hash_and_sizes():
    expected = {"name": "faces", "manifest_sha256": "b" * 64, "examples_per_split": {"validation": 9, "test": 4}}
    assert built()["data"] == expected


def spoilt(*path, value) -> dict:
    content = copy.deepcopy(built())
    inner = content
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return content


@pytest.mark.parametrize(
    "content",
    [
        spoilt("accuracy", value=69.8),
        spoilt("acuracy", value=0.7),
        spoilt("schema_version", value=2),
        spoilt("classes", value=sorted(CLASSES)),
        spoilt("confusion_matrix", value=[[1]]),
        spoilt("confusion_matrix", 0, 0, value=1.5),
        spoilt("per_class", "angry", "roc_auc", value="high"),
        spoilt("per_class", "anger", value=None),
        spoilt("protocol", "tta", value="rotate"),
        spoilt("protocol", "members", value=[]),
        spoilt("data", "manifest_sha256", value="unknown"),
        spoilt("examples", value=0),
    ],
    ids=lambda content: "",
)
def test_eval_json_outside_the_schema_is_neither_written_nor_read(content, tmp_path):
    path = tmp_path / "eval.json"
    with pytest.raises(jsonschema.ValidationError):
        eval_json.write_eval(str(path), content)
    assert not path.exists()
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"eval\.json is no eval\.json of this version"):
        eval_json.read_eval(str(path))


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        eval_json.write_eval(str(tmp_path / "eval.json"), {**built(), "images_per_second": float("nan")})
    assert not list(tmp_path.iterdir())


def test_summary_line_states_accuracy_interval_and_protocol():
    told = eval_json.summary_line(built())
    assert "accuracy 100.00 % (95 %: 67.56 to 100.00)" in told
    assert "labels ferplus (1 left out), test-time augmentation flip, 1 model(s)" in told
