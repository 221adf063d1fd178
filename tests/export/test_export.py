"""Tests that exports compute the logits of their run, and that others are rejected without leaving files behind."""

import dataclasses
import gc
import json
import pathlib
import re
import shutil
import threading
import zipfile

import flatbuffers
import jsonschema
import numpy as np
import pytest
import tensorflow as tf
from flatbuffers import number_types
from tensorflow.lite.tools import flatbuffer_utils

from fer.config import Model, Train
from fer.errors import StorageError, UserError
from fer.evaluation import eval_json, evaluate, inference
from fer.evaluation.eval_options import EvalRequest
from fer.export import export, parity
from fer.io import files
from fer.labels import CLASSES
from fer.models import classifier, export_manifest, loading, runtimes, weights
from tests.evaluation import factories
from tests.marks import HALF_PRECISIONS

for extra in ("tf2onnx", "onnxruntime"):
    pytest.importorskip(extra, reason=f"{extra} is not installed: the extra export brings it")

COUNT = factories.EXPORT_FACES
SHARDS = "tfrecords/faces"
EXAMPLES = ["example_saved_model.py", "example_tflite.py", "example_onnx.py"]
FILES = ["saved_model", "float32.tflite", "float16.tflite", "int8.tflite", "model.onnx"]


@pytest.fixture
def folder(export_folder) -> pathlib.Path:
    return export_folder


def request(folder: pathlib.Path, kind: str, output: pathlib.Path, **options) -> export.ExportRequest:
    values = {"workdir": str(folder / "run"), "data": str(folder / SHARDS), **options}
    return export.ExportRequest(kind=kind, output=str(output), **values)


@pytest.fixture
def exported(folder) -> dict:
    """Returns export.json of a folder into which all formats were exported one after the other."""
    return json.loads((folder / "exports" / "export.json").read_text())


@pytest.fixture(scope="module")
def images(export_folder) -> np.ndarray:
    return np.load(export_folder / "faces.npy")


@pytest.fixture(scope="module")
def float32(export_folder, images) -> np.ndarray:
    """Returns the logits of the run in float32, computed by Keras."""
    model = classifier.build(factories.EXPERIMENT.model, "float32")
    weights.load(model, str(export_folder / "run" / "checkpoints" / "best-00000012.npz"))
    return model(images, training=False).numpy()


def test_export_json_lists_all_formats_most_exact_first(exported, folder):
    assert [entry["file"] for entry in exported["exports"]] == FILES
    assert sorted(path.name for path in (folder / "exports").iterdir()) == sorted([*FILES, *EXAMPLES, "export.json"])
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
def test_runtime_computes_logits_of_run_in_float32(exported, folder, float32, name, tolerance, images):
    network = loading.open_run(str(folder / "exports" / name)).model
    logits = network.compute(images)
    assert (logits.dtype, logits.shape) == (np.float32, (COUNT, 7))
    np.testing.assert_allclose(logits, float32, atol=tolerance * np.abs(float32).max())
    np.testing.assert_array_equal(network(tf.constant(images)), logits)


def test_saved_model_maps_uint8_to_both_outputs_and_names_classes(exported, folder, float32, images):
    loaded = tf.saved_model.load(str(folder / "exports" / "saved_model"))
    serve = loaded.signatures["serving_default"]
    assert serve.structured_input_signature[1] == {"faces": tf.TensorSpec([None, 48, 48, 1], tf.uint8, name="faces")}
    outputs = serve(faces=tf.constant(images))
    assert {name: value.dtype for name, value in outputs.items()} == {"probabilities": tf.float32, "logits": tf.float32}
    exponents = np.exp(float32 - float32.max(axis=1, keepdims=True))
    np.testing.assert_allclose(outputs["probabilities"], exponents / exponents.sum(axis=1, keepdims=True), atol=1e-4)
    assert [name.decode() for name in loaded.signatures["classes"]()["classes"].numpy()] == list(CLASSES)
    assert (folder / "exports" / "saved_model" / "assets" / "classes.txt").read_text().split() == list(CLASSES)


@pytest.mark.parametrize("name", ["float32.tflite", "float16.tflite", "int8.tflite"])
def test_tflite_maps_uint8_to_both_outputs_in_float32(exported, folder, name, images):
    runner = tf.lite.Interpreter(str(folder / "exports" / name)).get_signature_runner("serving_default")
    assert runner.get_input_details()["faces"]["dtype"] == np.uint8
    outputs = runner(faces=factories.images(3))
    assert {output: value.dtype for output, value in outputs.items()} == {
        "probabilities": np.float32,
        "logits": np.float32,
    }
    # Even in int8, the softmax is not rounded to steps of 1/256.
    exact = tf.nn.softmax(outputs["logits"]).numpy()
    np.testing.assert_allclose(outputs["probabilities"], exact, atol=1e-6)


def test_onnx_names_outputs_and_classes(exported, folder):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "exports" / "model.onnx"))
    assert [(value.name, value.type, value.shape) for value in session.get_inputs()] == [
        ("faces", "tensor(uint8)", ["n", 48, 48, 1])
    ]
    assert {value.name: value.type for value in session.get_outputs()} == {
        "logits": "tensor(float)",
        "probabilities": "tensor(float)",
    }
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == list(CLASSES)
    assert json.loads(metadata["preprocessing"]) == {
        "colour": "grey",
        "height": 48,
        "width": 48,
        "channels": 1,
        "layout": "NHWC",
        "range": [0, 255],
    }


@pytest.mark.parametrize("name", ["float32.tflite", "float16.tflite", "int8.tflite"])
def test_tflite_contains_labels_and_metadata(exported, folder, name):
    path = folder / "exports" / name
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().split("\n") == [*CLASSES, ""]
    model = flatbuffer_utils.read_model(str(path))
    (buffer,) = (entry.buffer for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    content = bytes(model.buffers[buffer].data)
    assert content[4:8] == b"M001"
    (subgraph,) = read_tables(root_table(content), 3)
    (faces,), tensors = read_tables(subgraph, 2), read_tables(subgraph, 3)
    assert read_string(faces, 0) == "faces"
    names = {output.tensorIndex: output.name.decode() for output in model.signatureDefs[0].outputs}
    assert [read_string(tensor, 0) for tensor in tensors] == [names[index] for index in model.subgraphs[0].outputs]
    for tensor in tensors:
        (labels,) = read_tables(tensor, 6)
        assert read_string(labels, 0) == "labels.txt"


def root_table(content: bytes) -> flatbuffers.table.Table:
    return flatbuffers.table.Table(content, flatbuffers.encode.Get(number_types.UOffsetTFlags.packer_type, content, 0))


def read_tables(table: flatbuffers.table.Table, slot: int) -> list[flatbuffers.table.Table]:
    """Returns the tables of a vector in a slot."""
    offset = table.Offset(4 + 2 * slot)
    start, count = table.Vector(offset), table.VectorLen(offset)
    return [flatbuffers.table.Table(table.Bytes, table.Indirect(start + 4 * index)) for index in range(count)]


def read_string(table: flatbuffers.table.Table, slot: int) -> str:
    return table.String(table.Pos + table.Offset(4 + 2 * slot)).decode()


@pytest.mark.parametrize(
    ("name", "dtype"), [("float32.tflite", np.float32), ("float16.tflite", np.float16), ("int8.tflite", np.int8)]
)
def test_tflite_stores_kernels_in_its_precision(exported, folder, name, dtype):
    details = tf.lite.Interpreter(str(folder / "exports" / name)).get_tensor_details()
    kernels = [tensor["dtype"] for tensor in details if tensor["shape"].tolist() == [16, 3, 3, 8]]
    assert dtype in kernels
    # TensorFlow Lite unpacks float16 to float32 in a tensor of the same shape.
    assert set(kernels) <= {dtype, np.float32 if dtype == np.float16 else dtype}


@pytest.mark.extended
def test_tflite_file_size_falls_with_precision(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "MAX_SECONDS", 0.0)
    monkeypatch.setattr(export, "MAX_ACCURACY_LOSS", 1.0)
    model = Model(name="compact_s", image_size=24)
    factories.run(tmp_path / "run", experiment=dataclasses.replace(factories.EXPERIMENT, model=model))
    result = export.export(request(folder, "tflite", tmp_path / "out", workdir=str(tmp_path / "run")))
    size = {entry["precision"]: entry["bytes"] for entry in result.content["exports"]}
    assert size["float16"] < 0.55 * size["float32"]
    assert size["int8"] < 0.35 * size["float32"]


@pytest.mark.parametrize("precision", HALF_PRECISIONS)
def test_export_of_mixed_precision_run_is_float32(folder, float32, tmp_path, monkeypatch, precision, images):
    monkeypatch.setattr(parity, "MAX_SECONDS", 0.0)
    mixed = shutil.copytree(folder / "run", tmp_path / "run")
    experiment = dataclasses.replace(factories.EXPERIMENT, train=Train(precision=precision))
    record = json.loads((mixed / "config.json").read_text())
    record |= {"config": experiment.to_dict(), "config_sha256": experiment.sha256()}
    (mixed / "config.json").write_text(json.dumps(record))
    result = export.export(request(folder, "saved_model", tmp_path / "out", workdir=str(mixed)))
    compared = result.content["exports"][0]["compared"]
    assert (compared["run"]["precision"], compared["export"]["precision"]) == (precision, "float32")
    network = loading.open_run(str(tmp_path / "out")).model
    np.testing.assert_allclose(network.compute(images), float32, atol=1e-4 * np.abs(float32).max())


OTHERS = [pytest.param(name, marks=pytest.mark.extended) for name in FILES[1:]]


@pytest.mark.parametrize("name", [FILES[0], *OTHERS])
def test_network_compute_works_after_network_is_freed(exported, folder, name, images):
    """Checks that the function keeps the objects it needs alive, such as the variables of a SavedModel."""
    compute = loading.open_run(str(folder / "exports" / name)).model.compute
    gc.collect()
    assert compute(factories.images(2)).shape == (2, 7)


def test_export_json_compares_each_export_with_run_on_validation(exported, folder, images):
    labels = np.array(run_labels(folder))
    run_classes = inference.predict([loading.open_run(str(folder / "run")).model], images).probabilities.argmax(axis=1)
    for entry in exported["exports"]:
        network = runtimes.load(str(folder / "exports" / entry["file"]), entry["format"], 7)
        classes = network.compute(images).argmax(axis=1)
        compared = entry["compared"]
        assert compared["agreement"] == pytest.approx((classes == run_classes).mean())
        assert compared["run"]["accuracy"] == pytest.approx((run_classes == labels).mean()) == pytest.approx(25 / 30)
        assert compared["accuracy_difference"] == pytest.approx((classes == labels).mean() - 25 / 30)
        assert (compared["split"], compared["examples"], compared["run"]["precision"]) == (
            "validation",
            COUNT,
            "float32",
        )
        assert entry["calibrated_on"] == (COUNT if entry["precision"] == "int8" else None)


def run_labels(folder: pathlib.Path) -> list:
    """Reads the labels of the validation split."""
    records = tf.data.TFRecordDataset(str(folder / SHARDS / "validation-00000-of-00001.tfrecord"))
    return [
        tf.train.Example.FromString(record.numpy()).features.feature["label"].int64_list.value[0] for record in records
    ]


def test_format_table_has_one_line_for_run_and_each_export(exported):
    lines = parity.format_table(exported["exports"]).splitlines()
    assert lines[1].startswith("run, float32")
    assert "83.33 %" in lines[1]
    assert [line.split()[0] for line in lines[2:]] == FILES
    assert len({len(line) for line in lines}) == 1


def test_measure_times_are_medians_of_single_and_batch_calls(monkeypatch):
    clock, calls = [0.0], []

    def compute(faces: np.ndarray) -> np.ndarray:
        calls.append(len(faces))
        clock[0] += 0.003 * len(faces) * (50 if len(calls) % 4 == 0 else 1)  # every fourth call is an outlier
        return np.tile(np.float32([0, 1, 0, 0, 0, 0, 0]), (len(faces), 1))

    monkeypatch.setattr(parity.time, "perf_counter", lambda: clock[0])
    labels = np.ones(COUNT, np.int32)
    result = parity.measure(runtimes.Network(compute), "float32", factories.images(COUNT), labels, int)
    assert result.milliseconds_alone == pytest.approx(3)
    assert result.milliseconds_in_batch == pytest.approx(3)
    assert set(calls) == {1, 32, inference.BATCH}  # 32: the padded batch of the 30 faces of the accuracy
    assert result.accuracy == 1.0


@pytest.mark.parametrize("name", ["saved_model", "int8.tflite", "model.onnx"])
def test_evaluation_records_export(exported, folder, name):
    entry = next(entry for entry in exported["exports"] if entry["file"] == name)
    evaluation = evaluate.evaluate(EvalRequest([str(folder / "exports" / name)], str(folder / SHARDS), tta="flip"))
    member = evaluation.content["protocol"]["members"][0]
    assert member["export"] == {field: entry[field] for field in ("format", "precision", "file", "sha256")}
    assert (
        member["precision"] == evaluation.content["protocol"]["precision"] == ("int8" if "int8" in name else "float32")
    )
    assert (member["model"], member["checkpoint_step"]) == ("tiny", 12)
    assert f"{entry['format']} {entry['precision']}" in eval_json.summary_line(evaluation.content)
    assert evaluation.maps == {}


def test_evaluation_of_export_writes_all_files_except_gradcam(exported, folder, tmp_path, figures):
    evaluation = evaluate.evaluate(EvalRequest([str(folder / "exports")], str(folder / SHARDS)))
    assert evaluation.content["protocol"]["members"][0]["export"]["file"] == "saved_model"  # the most exact
    assert evaluation.content["accuracy"] == exported["exports"][0]["compared"]["export"]["accuracy"]
    written = {pathlib.Path(path).name for path in evaluate.write(evaluation, str(tmp_path))}
    assert {"eval.json", "report.html", "confusion_matrix.png"} <= written
    assert "gradcam.png" not in written
    assert exported["exports"][0]["sha256"] in (tmp_path / "report.html").read_text()
    assert eval_json.read_eval(str(tmp_path / "eval.json")) == evaluation.content


def test_ensemble_averages_runs_and_exports(exported, folder, images):
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
def test_default_output_is_beside_export(exported, folder, workdir, expected):
    evaluation_request = EvalRequest([f"{folder}/{workdir}"], str(folder / SHARDS))
    assert evaluation_request.default_output() == str(folder / expected)


def test_saved_model_in_a_store_is_incomplete_for_readers_until_its_last_file(tmp_path, monkeypatch):
    """A folder in a store cannot be renamed atomically."""
    source, target = tmp_path / "saved_model", f"memory://{tmp_path.name}/saved_model"
    (source / "variables").mkdir(parents=True)
    for name in ("fingerprint.pb", export.MARKER, "variables/variables.index"):
        (source / name).write_bytes(b"new")
    readable, write = [], files.write_bytes

    def record_write(path: str, content: bytes) -> None:
        readable.append(files.exists(f"{target}/{export.MARKER}"))
        write(path, content)

    for name in (export.MARKER, "variables/stale"):
        write(f"{target}/{name}", b"old")
    monkeypatch.setattr(files, "write_bytes", record_write)
    export._copy(str(source), target)
    assert readable == [False] * 3
    for name in ("fingerprint.pb", export.MARKER, "variables/variables.index"):
        assert files.read_bytes(f"{target}/{name}", "") == b"new"
    assert not files.exists(f"{target}/variables/stale")


@pytest.mark.parametrize("name", ["saved_model", "float32.tflite"])
def test_export_in_a_store_computes_logits_of_local_one(exported, folder, tmp_path, images, name):
    source, url = folder / "exports", f"memory://{tmp_path.name}/exports"
    for path in files.list_files(str(source)):
        files.copy(str(source / path), f"{url}/{path}")
    kind = "tflite" if name.endswith(".tflite") else name
    logits = [runtimes.load(path, kind, len(CLASSES)).compute(images) for path in (str(source / name), f"{url}/{name}")]
    np.testing.assert_array_equal(logits[0], logits[1])


def test_export_rejects_accuracy_loss_above_one_point_and_writes_nothing(folder, tmp_path, monkeypatch):
    constant = runtimes.Network(lambda faces: np.tile(np.float32([1, 0, 0, 0, 0, 0, 0]), (len(faces), 1)))
    monkeypatch.setattr(runtimes, "load", lambda path, kind, classes: constant)
    export_request = request(folder, "tflite", tmp_path / "out", precision="float32")
    with pytest.raises(UserError, match=r"float32\.tflite loses \d\d\.\d\d points of accuracy .* nothing was written"):
        export.export(export_request)
    assert not (tmp_path / "out").exists()


def test_check_accuracy_loss_accepts_exactly_one_point():
    def entry(loss: float) -> dict:
        run, exported = {"accuracy": 0.5}, {"accuracy": 0.5 - loss}
        compared = {"accuracy_difference": -loss, "examples": 100, "run": run, "export": exported}
        return {"file": "int8.tflite", "compared": compared}

    export._check_accuracy_loss(entry(0.5 - 0.49))  # 0.010000000000000009
    with pytest.raises(UserError, match=r"int8\.tflite loses 1\.10 points"):
        export._check_accuracy_loss(entry(0.011))


def test_export_error_names_unsupported_precision(folder, tmp_path):
    with pytest.raises(UserError, match=r"--format=onnx has no --precision=int8: it has float32"):
        export.export(request(folder, "onnx", tmp_path / "out", precision="int8"))


def test_export_rejects_folder_with_exports_of_other_weights(exported, folder):
    before = (folder / "exports" / "export.json").read_bytes()
    with pytest.raises(UserError, match=r"holds exports of other weights \(.*run, step 12\)"):
        export.export(request(folder, "onnx", folder / "exports", workdir=str(folder / "other")))
    assert (folder / "exports" / "export.json").read_bytes() == before


@pytest.mark.parametrize("kind", ["saved_model", "tflite"])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), tf.errors.OutOfRangeError(None, None, "File too large")]
)
def test_export_error_names_file_when_the_disk_is_full(folder, tmp_path, monkeypatch, error, kind):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(
        StorageError, match=r"^Cannot write .*saved_model: " if kind == "saved_model" else "^Cannot write "
    ):
        export.export(request(folder, kind, tmp_path / "out"))
    assert not (tmp_path / "out" / "export.json").exists()


def test_export_keeps_entries_that_another_export_wrote_meanwhile(exported, folder, tmp_path, monkeypatch):
    """Two exports of one run into one folder, of which the second ends while the first measures."""
    output, measure = tmp_path / "out", parity.measure

    def measure_beside_another(*arguments):
        if not output.exists():
            shutil.copytree(folder / "exports", output)
        return measure(*arguments)

    monkeypatch.setattr(parity, "measure", measure_beside_another)
    export.export(request(folder, "tflite", output, precision="float16"))
    kept = json.loads((output / "export.json").read_text())["exports"]
    assert {entry["file"] for entry in kept} == {entry["file"] for entry in exported["exports"]}


@pytest.mark.parametrize("exists", [False, True])
def test_parallel_exports_into_one_folder_are_all_listed(exported, folder, tmp_path, monkeypatch, exists):
    """The second export is published while the first one copies its files."""
    output, copy, run = tmp_path / "out", export._copy, loading.open_run(str(folder / "run"))
    if exists:
        output.mkdir()
    by_kind = {entry["format"]: [entry] for entry in exported["exports"]}
    second: list[threading.Thread] = []

    def publish(kind: str) -> None:
        names = [by_kind[kind][0]["file"], f"example_{kind}.py"]
        export._publish(str(folder / "exports"), str(output), names, run, by_kind[kind])

    def copy_beside_another(source: str, target: str) -> None:
        if not second:
            second.append(threading.Thread(target=publish, args=["onnx"]))
            second[0].start()
            second[0].join(0.5)  # seconds; the second one waits for the first
        copy(source, target)

    monkeypatch.setattr(export, "_copy", copy_beside_another)
    publish("tflite")
    second[0].join()
    content = export_manifest.read(str(output))
    names = {by_kind[kind][0]["file"] for kind in ("tflite", "onnx")}
    assert {entry["file"] for entry in content["exports"]} == names
    assert {path.name for path in output.iterdir()} == names | {"example_tflite.py", "example_onnx.py", "export.json"}


def test_export_rejects_run_folder_as_output(folder, tmp_path):
    shutil.copytree(folder / "run" / "checkpoints", tmp_path / "training" / "checkpoints")
    for output in (folder / "run", tmp_path / "training"):
        with pytest.raises(UserError, match="is a run folder; choose another --output"):
            export.export(request(folder, "onnx", output))


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize(
    ("kind", "name"),
    [("onnx", "model.onnx"), ("saved_model", "saved_model/notes.txt"), ("tflite", "example_tflite.py")],
)
def test_export_rejects_foreign_file_before_conversion(folder, tmp_path, monkeypatch, kind, name, remote):
    output = f"memory://{tmp_path.name}/exports" if remote else str(tmp_path / "exports")
    files.write_text(f"{output}/{name}", "the user's")
    monkeypatch.setattr(export.converters, "write", None)
    blocked = re.escape(f"{output}/{name.split('/')[0]}")
    with pytest.raises(UserError, match=rf"^{blocked} exists, and no complete export wrote it; an interrupted one"):
        export.export(dataclasses.replace(request(folder, kind, tmp_path), output=output))
    assert files.list_files(output) == [name]
    assert files.read_bytes(f"{output}/{name}", "") == b"the user's"


def test_export_rejects_foreign_file_beside_exports_of_other_format(exported, folder, tmp_path):
    output = pathlib.Path(shutil.copytree(folder / "exports", tmp_path / "exports"))
    content = export_manifest.read(str(output))
    content["exports"] = [entry for entry in content["exports"] if entry["format"] == "tflite"]
    export_manifest.write(str(output / "export.json"), content)
    with pytest.raises(UserError, match=r"exports/model\.onnx exists, and no complete export wrote it"):
        export.export(request(folder, "onnx", output))


def test_export_rejects_export(exported, folder, tmp_path):
    with pytest.raises(UserError, match="is already an export"):
        export.export(request(folder, "onnx", tmp_path / "out", workdir=str(folder / "exports")))


def test_find_shards_defaults_to_training_data(folder, tmp_path, monkeypatch):
    run = loading.open_run(str(folder / "run"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--data is missing: .*run was trained on faces, and tfrecords/faces holds no"):
        export.find_shards(None, run)
    (tmp_path / "tfrecords").mkdir()
    shutil.copytree(folder / SHARDS, tmp_path / "tfrecords" / "faces")
    assert export.find_shards(None, run) == "tfrecords/faces"
    assert export.find_shards("elsewhere", run) == "elsewhere"


@pytest.fixture
def export_copy(exported, folder, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(folder / "exports", tmp_path / "exports"))


@pytest.mark.parametrize("name", ["int8.tflite", "saved_model/saved_model.pb", "saved_model/assets/classes.txt"])
def test_open_run_rejects_export_with_flipped_bit(export_copy, name):
    path = export_copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name.split('/')[0]} is not what export\.json lists: its SHA-256 differs"):
        loading.open_run(str(export_copy / name.split("/")[0]))


def test_open_run_returns_initial_run_of_export_and_rejects_damaged_record(export_copy):
    sources = {"weights": "faces.npz", "label_source": "fer", "teacher_runs": ""}
    record = {"run": "runs/first", "weights_sha256": 64 * "a", "config_sha256": 64 * "b", "step": 3}
    record |= {"trained_on": factories.TRAINED_ON, "learned_from": sources}
    content = export_manifest.read(str(export_copy))
    content["run"]["init_from"] = record
    export_manifest.write(str(export_copy / "export.json"), content)
    opened = loading.open_run(str(export_copy / "float32.tflite"))
    assert eval_json.describe_member(opened)["learned_from"]["init_from"] == record
    del sources["weights"]
    export_manifest.write(str(export_copy / "export.json"), content)
    with pytest.raises(UserError, match=rf"^{export_copy}/export\.json has no weights of type str"):
        loading.open_run(str(export_copy / "float32.tflite"))


def test_open_run_error_lists_exports_when_file_is_none(export_copy):
    with pytest.raises(UserError, match=r"float8\.tflite is not an export of .*lists saved_model, float32\.tflite"):
        loading.open_run(str(export_copy / "float8.tflite"))


def test_open_run_error_names_missing_export(export_copy):
    (export_copy / "model.onnx").unlink()
    with pytest.raises(UserError, match=r"There is no .*model\.onnx, which export\.json lists"):
        loading.open_run(str(export_copy / "model.onnx"))


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 1}'], ids=["cut", "list", "fields missing"])
def test_open_run_error_names_damaged_export_json(export_copy, content):
    (export_copy / "export.json").write_text(content)
    with pytest.raises(UserError, match=r"export\.json"):
        loading.open_run(str(export_copy))


@pytest.mark.parametrize("kind", ["tflite", "onnx", "saved_model"])
def test_load_rejects_file_that_is_no_model(tmp_path, kind):
    (tmp_path / "model").write_bytes(b"no model at all")
    with pytest.raises(UserError, match=r"model cannot be loaded \(.*\): it is damaged"):
        runtimes.load(str(tmp_path / "model"), kind, 7)


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
    monkeypatch.setattr(runtimes, f"_load_{kind}", lambda path: runtimes.Network(compute))
    with pytest.raises(UserError, match=rf"^model\.{kind} cannot be loaded \({reason}\): it is damaged; export again"):
        runtimes.load(f"model.{kind}", kind, 7)


def test_write_export_json_rejects_unknown_field(exported, tmp_path):
    with pytest.raises(jsonschema.ValidationError):
        export_manifest.write(str(tmp_path / "export.json"), {**exported, "colour": "blue"})
    assert not (tmp_path / "export.json").exists()
