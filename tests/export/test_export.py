"""Exports compute what the run does, each by its own runtime; what does not is refused, and nothing is left behind."""

import dataclasses
import gc
import json
import pathlib
import shutil

import jsonschema
import numpy as np
import pytest
import tensorflow as tf

from fer.config import Model, Train
from fer.errors import UserError
from fer.evaluation import eval_json, evaluate, inference
from fer.evaluation.requests import EvalRequest
from fer.export import export, parity
from fer.io import files
from fer.labels import CLASSES
from fer.models import classifier, export_manifest, loading, runtimes, weights
from tests.evaluation import factories
from tests.marks import needs_bfloat16

for extra in ("tf2onnx", "onnxruntime"):
    pytest.importorskip(extra, reason=f"{extra} is not installed: the extra export brings it")

COUNT = factories.EXPORT_FACES
SHARDS = "tfrecords/faces"
FILES = ["saved_model", "float32.tflite", "float16.tflite", "int8.tflite", "model.onnx"]


@pytest.fixture
def folder(export_folder) -> pathlib.Path:
    return export_folder


def request(folder: pathlib.Path, kind: str, output: pathlib.Path, **options) -> export.ExportRequest:
    values = {"workdir": str(folder / "run"), "data": str(folder / SHARDS), **options}
    return export.ExportRequest(kind=kind, output=str(output), **values)


@pytest.fixture
def exported(folder) -> dict:
    """What export.json holds of all formats, which were exported one after the other into one folder."""
    return json.loads((folder / "exports" / "export.json").read_text())


@pytest.fixture(scope="module")
def images(export_folder) -> np.ndarray:
    return np.load(export_folder / "faces.npy")


@pytest.fixture(scope="module")
def float32(export_folder, images) -> np.ndarray:
    """The run's logits in float32, computed by Keras."""
    model = classifier.build(factories.EXPERIMENT.model, "float32")
    weights.load(model, str(export_folder / "run" / "checkpoints" / "best-00000012.npz"))
    return model(images, training=False).numpy()


def test_a_folder_gathers_every_format_of_a_run_the_most_exact_first(exported, folder):
    assert [entry["file"] for entry in exported["exports"]] == FILES
    assert sorted(path.name for path in (folder / "exports").iterdir()) == sorted([*FILES, "export.json"])
    assert export_manifest.read(str(folder / "exports")) == exported


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("saved_model", 1e-4),
        ("float32.tflite", 1e-4),
        ("float16.tflite", 5e-3),
        ("int8.tflite", 0.08),
        ("model.onnx", 1e-4),
    ],
)
def test_each_runtime_computes_the_runs_logits_in_float32(exported, folder, float32, name, tolerance, images):
    network = loading.open_run(str(folder / "exports" / name)).model
    found = network.compute(images)
    assert (found.dtype, found.shape) == (np.float32, (COUNT, 7))
    np.testing.assert_allclose(found, float32, atol=tolerance * np.abs(float32).max())
    np.testing.assert_array_equal(network(tf.constant(images)), found)


def test_the_saved_model_serves_uint8_to_both_outputs_and_names_the_classes(exported, folder, float32, images):
    loaded = tf.saved_model.load(str(folder / "exports" / "saved_model"))
    serve = loaded.signatures["serving_default"]
    assert serve.structured_input_signature[1] == {"faces": tf.TensorSpec([None, 48, 48, 1], tf.uint8, name="faces")}
    served = serve(faces=tf.constant(images))
    assert {name: value.dtype for name, value in served.items()} == {"probabilities": tf.float32, "logits": tf.float32}
    exponents = np.exp(float32 - float32.max(axis=1, keepdims=True))
    np.testing.assert_allclose(served["probabilities"], exponents / exponents.sum(axis=1, keepdims=True), atol=1e-4)
    assert [name.decode() for name in loaded.signatures["classes"]()["classes"].numpy()] == list(CLASSES)
    assert (folder / "exports" / "saved_model" / "assets" / "classes.txt").read_text().split() == list(CLASSES)


@pytest.mark.parametrize("name", ["float32.tflite", "float16.tflite", "int8.tflite"])
def test_a_tflite_file_takes_uint8_and_gives_both_outputs_in_float32(exported, folder, name, images):
    runner = tf.lite.Interpreter(str(folder / "exports" / name)).get_signature_runner("serving_default")
    assert runner.get_input_details()["faces"]["dtype"] == np.uint8
    found = runner(faces=factories.images(3))
    assert {output: value.dtype for output, value in found.items()} == {
        "probabilities": np.float32,
        "logits": np.float32,
    }
    # In int8 too the softmax is not rounded to steps of 1/256.
    exact = tf.nn.softmax(found["logits"]).numpy()
    np.testing.assert_allclose(found["probabilities"], exact, atol=1e-6)


def test_the_onnx_file_names_its_outputs_and_the_classes(exported, folder):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "exports" / "model.onnx"))
    assert [(value.name, value.type, value.shape) for value in session.get_inputs()] == [
        ("faces", "tensor(uint8)", ["n", 48, 48, 1])
    ]
    assert {value.name: value.type for value in session.get_outputs()} == {
        "logits": "tensor(float)",
        "probabilities": "tensor(float)",
    }
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(CLASSES)


@pytest.mark.parametrize(
    ("name", "dtype"), [("float32.tflite", np.float32), ("float16.tflite", np.float16), ("int8.tflite", np.int8)]
)
def test_a_tflite_file_stores_the_kernels_in_its_precision(exported, folder, name, dtype):
    details = tf.lite.Interpreter(str(folder / "exports" / name)).get_tensor_details()
    kernels = [tensor["dtype"] for tensor in details if tensor["shape"].tolist() == [16, 3, 3, 8]]
    assert dtype in kernels
    # TensorFlow Lite unpacks float16 to float32 in a tensor of the same shape.
    assert set(kernels) <= {dtype, np.float32 if dtype == np.float16 else dtype}


@pytest.mark.extended
def test_stored_in_less_a_network_is_smaller(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "LONGEST", 0.0)
    monkeypatch.setattr(export, "MOST_LOST", 1.0)
    model = Model(name="compact_s", image_size=24)
    factories.run(tmp_path / "run", experiment=dataclasses.replace(factories.EXPERIMENT, model=model))
    done = export.export(request(folder, "tflite", tmp_path / "out", workdir=str(tmp_path / "run")))
    size = {entry["precision"]: entry["bytes"] for entry in done.content["exports"]}
    assert size["float16"] < 0.55 * size["float32"]
    assert size["int8"] < 0.35 * size["float32"]


@pytest.mark.parametrize("precision", [pytest.param("mixed_bfloat16", marks=needs_bfloat16), "mixed_float16"])
def test_a_run_in_mixed_precision_is_exported_in_float32(folder, float32, tmp_path, monkeypatch, precision, images):
    monkeypatch.setattr(parity, "LONGEST", 0.0)
    mixed = shutil.copytree(folder / "run", tmp_path / "run")
    experiment = dataclasses.replace(factories.EXPERIMENT, train=Train(precision=precision))
    record = json.loads((mixed / "config.json").read_text())
    record |= {"config": experiment.to_dict(), "config_sha256": experiment.sha256()}
    (mixed / "config.json").write_text(json.dumps(record))
    done = export.export(request(folder, "saved_model", tmp_path / "out", workdir=str(mixed)))
    compared = done.content["exports"][0]["compared"]
    assert (compared["run"]["precision"], compared["export"]["precision"]) == (precision, "float32")
    network = loading.open_run(str(tmp_path / "out")).model
    np.testing.assert_allclose(network.compute(images), float32, atol=1e-4 * np.abs(float32).max())


OTHERS = [pytest.param(name, marks=pytest.mark.extended) for name in FILES[1:]]


@pytest.mark.parametrize("name", [FILES[0], *OTHERS])
def test_the_compute_function_works_without_its_network(exported, folder, name, images):
    """It holds what it needs, such as the variables of a SavedModel."""
    compute = loading.open_run(str(folder / "exports" / name)).model.compute
    gc.collect()
    assert compute(factories.images(2)).shape == (2, 7)


def test_each_export_is_compared_with_the_run_on_validation(exported, folder, images):
    labels = np.array(run_labels(folder))
    of_run = inference.predict([loading.open_run(str(folder / "run")).model], images).probabilities.argmax(axis=1)
    for entry in exported["exports"]:
        network = runtimes.load(str(folder / "exports" / entry["file"]), entry["format"])
        said = network.compute(images).argmax(axis=1)
        found = entry["compared"]
        assert found["agreement"] == pytest.approx((said == of_run).mean())
        assert found["run"]["accuracy"] == pytest.approx((of_run == labels).mean()) == pytest.approx(25 / 30)
        assert found["accuracy_difference"] == pytest.approx((said == labels).mean() - 25 / 30)
        assert (found["split"], found["examples"], found["run"]["precision"]) == ("validation", COUNT, "float32")
        assert entry["calibrated_on"] == (COUNT if entry["precision"] == "int8" else None)


def run_labels(folder: pathlib.Path) -> list:
    records = tf.data.TFRecordDataset(str(folder / SHARDS / "validation-00000-of-00001.tfrecord"))
    return [
        tf.train.Example.FromString(record.numpy()).features.feature["label"].int64_list.value[0] for record in records
    ]


def test_the_table_has_a_line_for_the_run_and_one_for_each_export(exported):
    lines = parity.table(exported["exports"]).splitlines()
    assert lines[1].startswith("the run, float32")
    assert "83.33 %" in lines[1]
    assert [line.split()[0] for line in lines[2:]] == FILES
    assert len({len(line) for line in lines}) == 1


def test_the_times_are_medians_of_calls_with_one_face_and_with_a_batch(monkeypatch):
    clock, calls = [0.0], []

    def compute(faces: np.ndarray) -> np.ndarray:
        calls.append(len(faces))
        clock[0] += 0.003 * len(faces) * (50 if len(calls) % 4 == 0 else 1)  # an outlier now and then
        return np.tile(np.float32([0, 1, 0, 0, 0, 0, 0]), (len(faces), 1))

    monkeypatch.setattr(parity.time, "perf_counter", lambda: clock[0])
    labels = np.ones(COUNT, np.int32)
    found = parity.measure(runtimes.Network(compute), "float32", factories.images(COUNT), labels, int)
    assert found.milliseconds_alone == pytest.approx(3)
    assert found.milliseconds_in_batch == pytest.approx(3)
    assert set(calls) == {1, 32, inference.BATCH}  # 32: the padded batch of the 30 faces of the accuracy
    assert found.accuracy == 1.0


@pytest.mark.parametrize("name", ["saved_model", "int8.tflite", "model.onnx"])
def test_evaluation_says_which_export_it_measured(exported, folder, name):
    entry = next(entry for entry in exported["exports"] if entry["file"] == name)
    found = evaluate.evaluate(EvalRequest([str(folder / "exports" / name)], str(folder / SHARDS), tta="flip"))
    member = found.content["protocol"]["members"][0]
    assert member["export"] == {field: entry[field] for field in ("format", "precision", "file", "sha256")}
    assert member["precision"] == found.content["protocol"]["precision"] == ("int8" if "int8" in name else "float32")
    assert (member["model"], member["checkpoint_step"]) == ("tiny", 12)
    assert f"{entry['format']} {entry['precision']}" in eval_json.summary_line(found.content)
    assert found.maps == {}


def test_an_evaluated_export_has_all_results_but_a_look_inside(exported, folder, tmp_path, figures):
    found = evaluate.evaluate(EvalRequest([str(folder / "exports")], str(folder / SHARDS)))
    assert found.content["protocol"]["members"][0]["export"]["file"] == "saved_model"  # the most exact
    assert found.content["accuracy"] == exported["exports"][0]["compared"]["export"]["accuracy"]
    written = {pathlib.Path(path).name for path in evaluate.write(found, str(tmp_path))}
    assert {"eval.json", "report.html", "confusion_matrix.png"} <= written
    assert "gradcam.png" not in written
    assert exported["exports"][0]["sha256"] in (tmp_path / "report.html").read_text()
    assert eval_json.read_eval(str(tmp_path / "eval.json")) == found.content


def test_an_ensemble_mixes_runs_and_exports(exported, folder, images):
    names = ("other", "exports/int8.tflite", "exports/model.onnx")
    both = evaluate.evaluate(EvalRequest([str(folder / name) for name in names], str(folder / SHARDS)))
    alone = [inference.predict([loading.open_run(str(folder / name)).model], images).probabilities for name in names]
    np.testing.assert_allclose(both.predictions.probabilities, np.mean(alone, axis=0), atol=1e-6)
    assert ["export" in member for member in both.content["protocol"]["members"]] == [False, True, True]


@pytest.mark.parametrize(
    ("workdir", "expected"),
    [
        ("run", "run"),
        ("exports", "exports"),
        ("exports/int8.tflite", "exports/int8-results"),
        ("exports/saved_model", "exports/saved_model-results"),
        ("exports/saved_model/", "exports/saved_model-results"),
    ],
)
def test_results_go_beside_an_export_and_not_into_it(exported, folder, workdir, expected):
    wanted = EvalRequest([f"{folder}/{workdir}"], str(folder / SHARDS))
    assert wanted.default_output() == str(folder / expected)


def test_saved_model_in_a_store_is_incomplete_for_readers_until_its_last_file(tmp_path, monkeypatch):
    """ram:// stands for a store, in which a folder is not renamed as one."""
    source, target = tmp_path / "saved_model", "ram://exports/saved_model"
    (source / "variables").mkdir(parents=True)
    for name in ("fingerprint.pb", export.MARKER, "variables/variables.index"):
        (source / name).write_bytes(b"new")
    readable, write = [], files.write_bytes

    def recorded(path: str, content: bytes) -> None:
        readable.append(tf.io.gfile.exists(f"{target}/{export.MARKER}"))
        write(path, content)

    tf.io.gfile.makedirs(f"{target}/variables")
    for name in (export.MARKER, "variables/stale"):
        write(f"{target}/{name}", b"old")
    monkeypatch.setattr(files, "write_bytes", recorded)
    export._copy(str(source), target)
    assert readable == [False] * 3
    for name in ("fingerprint.pb", export.MARKER, "variables/variables.index"):
        assert files.read_bytes(f"{target}/{name}", "") == b"new"
    assert not tf.io.gfile.exists(f"{target}/variables/stale")


def test_an_export_that_loses_more_than_a_point_is_refused_and_nothing_is_written(folder, tmp_path, monkeypatch):
    blind = runtimes.Network(lambda faces: np.tile(np.float32([1, 0, 0, 0, 0, 0, 0]), (len(faces), 1)))
    monkeypatch.setattr(runtimes, "load", lambda path, kind: blind)
    wanted = request(folder, "tflite", tmp_path / "out", precision="float32")
    with pytest.raises(UserError, match=r"float32\.tflite loses \d\d\.\d\d points of accuracy .* nothing was written"):
        export.export(wanted)
    assert not (tmp_path / "out").exists()


def test_a_point_of_accuracy_may_be_lost_and_no_more():
    def entry(lost: float) -> dict:
        run_accuracy, found = {"accuracy": 0.5}, {"accuracy": 0.5 - lost}
        compared = {"accuracy_difference": -lost, "examples": 100, "run": run_accuracy, "export": found}
        return {"file": "int8.tflite", "compared": compared}

    export._check_loss(entry(0.5 - 0.49))  # 0.010000000000000009
    with pytest.raises(UserError, match=r"int8\.tflite loses 1\.10 points"):
        export._check_loss(entry(0.011))


def test_a_precision_that_the_format_lacks_is_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"--format=onnx has no --precision=int8: it has float32"):
        export.export(request(folder, "onnx", tmp_path / "out", precision="int8"))


def test_a_folder_with_exports_of_other_weights_is_left_alone(exported, folder):
    before = (folder / "exports" / "export.json").read_bytes()
    with pytest.raises(UserError, match=r"holds exports of other weights \(.*run, step 12\)"):
        export.export(request(folder, "onnx", folder / "exports", workdir=str(folder / "other")))
    assert (folder / "exports" / "export.json").read_bytes() == before


def test_exports_do_not_go_among_a_runs_own_files(folder):
    with pytest.raises(UserError, match="is a run folder; choose another --output"):
        export.export(request(folder, "onnx", folder / "run"))


def test_an_export_is_not_exported_again(exported, folder, tmp_path):
    with pytest.raises(UserError, match="is an export already"):
        export.export(request(folder, "onnx", tmp_path / "out", workdir=str(folder / "exports")))


def test_without_data_the_shards_that_the_run_was_trained_on_are_looked_for(folder, tmp_path, monkeypatch):
    trained = loading.open_run(str(folder / "run"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--data is missing: .*run was trained on faces, and tfrecords/faces holds no"):
        export.find_shards(None, trained)
    (tmp_path / "tfrecords").mkdir()
    shutil.copytree(folder / SHARDS, tmp_path / "tfrecords" / "faces")
    assert export.find_shards(None, trained) == "tfrecords/faces"
    assert export.find_shards("elsewhere", trained) == "elsewhere"


@pytest.fixture
def copied(exported, folder, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(folder / "exports", tmp_path / "exports"))


@pytest.mark.parametrize("name", ["int8.tflite", "saved_model/saved_model.pb", "saved_model/assets/classes.txt"])
def test_an_export_with_a_flipped_bit_is_refused(copied, name):
    path = copied / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name.split('/')[0]} is not what export\.json lists: its SHA-256 differs"):
        loading.open_run(str(copied / name.split("/")[0]))


def test_a_file_that_is_no_export_is_named_with_those_that_are(copied):
    with pytest.raises(UserError, match=r"float8\.tflite is not an export of .*lists saved_model, float32\.tflite"):
        loading.open_run(str(copied / "float8.tflite"))


def test_a_missing_export_is_named(copied):
    (copied / "model.onnx").unlink()
    with pytest.raises(UserError, match=r"There is no .*model\.onnx, which export\.json lists"):
        loading.open_run(str(copied / "model.onnx"))


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 1}'], ids=["cut", "list", "fields missing"])
def test_a_damaged_record_is_named(copied, content):
    (copied / "export.json").write_text(content)
    with pytest.raises(UserError, match=r"export\.json"):
        loading.open_run(str(copied))


@pytest.mark.parametrize("kind", ["tflite", "onnx", "saved_model"])
def test_what_is_no_model_cannot_be_loaded(tmp_path, kind):
    (tmp_path / "model").write_bytes(b"no model at all")
    with pytest.raises(UserError, match=r"model cannot be loaded \(.*\): it is damaged"):
        runtimes.load(str(tmp_path / "model"), kind)


def fail(_: np.ndarray) -> np.ndarray:
    raise RuntimeError("Input tensor 1 lacks data")


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (fail, "Input tensor 1 lacks data"),
        (lambda faces: np.zeros([len(faces), 8], np.float32), r"its logits of a face are \[1, 8\] float32"),
        (lambda faces: np.zeros([len(faces), 7]), r"its logits of a face are \[1, 7\] float64"),
    ],
)
@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_load_error_names_file_that_computes_no_logits(monkeypatch, kind, compute, reason):
    monkeypatch.setattr(runtimes, f"_{kind}", lambda path: runtimes.Network(compute))
    with pytest.raises(UserError, match=rf"^model\.{kind} cannot be loaded \({reason}\): it is damaged; export again"):
        runtimes.load(f"model.{kind}", kind)


def test_what_the_schema_does_not_know_is_not_written(exported, tmp_path):
    with pytest.raises(jsonschema.ValidationError):
        export_manifest.write(str(tmp_path / "export.json"), {**exported, "colour": "blue"})
    assert not (tmp_path / "export.json").exists()
