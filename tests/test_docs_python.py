"""Runs the Python examples of the documents, each in its own process, in a folder with a photo and shards."""

import importlib.util
import json
import pathlib
import re

import numpy as np
import pytest

import fer
from fer.data import record_writer
from tests.demo.photo import make_photo
from tests.evaluation import factories
from tests.predict import clips
from tests.test_api import run_python

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(synthetic_shards, tmp_path) -> pathlib.Path:
    """Returns a folder with the paths that the examples name: photo.jpg, clip.mp4 and tfrecords/fer2013."""
    make_photo().save(tmp_path / "photo.jpg")
    if importlib.util.find_spec("cv2"):
        clips.write_clip(tmp_path / "clip.mp4", [np.asarray(make_photo())] * 6, codec="mp4v")
    (tmp_path / "tfrecords").mkdir()
    (tmp_path / "tfrecords" / "fer2013").symlink_to(synthetic_shards.folder)
    return tmp_path


def run_example(code: str, folder: pathlib.Path) -> str:
    """Runs an example with a small network instead of the bundled one, whose training would take minutes."""
    assert code.count('fer.load("bundled")') == 1
    run = factories.run(folder / "run")
    return run_python(code.replace('fer.load("bundled")', f"fer.load({run!r})"), folder)


def read_snippets(page: str) -> str:
    """Returns the fenced Python code of a page."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL))


@pytest.mark.extended
def test_api_page_examples_run(folder):
    pytest.importorskip("cv2", reason="OpenCV is not installed: the extra photos brings it")
    printed = run_example(read_snippets("docs/api.md"), folder)
    assert len(re.findall(r"^Box\(left=\d+, top=\d+, width=\d+, height=\d+\) [a-z]+ 0\.\d+$", printed, re.M)) == 2
    assert re.findall(r"^(\d+) (\S+) (\d+) [a-z]+$", printed, re.M) == [
        *[("0", "0.0", track) for track in "12"],
        *[("5", "0.2", track) for track in "12"],
    ]
    assert re.search(r"^0\.\d+ \[0\.\d+, 0\.\d+\] 0\.\d+$", printed, re.M)


def test_api_page_is_short():
    assert len((ROOT / "docs" / "api.md").read_text().split()) <= 450


def test_api_page_names_every_public_function():
    page = (ROOT / "docs" / "api.md").read_text()
    functions = [name for name in fer.__all__ if name.islower()]
    members = [name for name in vars(fer.FaceClassifier) if not name.startswith("_")]
    for name in [*functions, *members, "batches", "arrays", "UserError"]:
        assert re.search(rf"\b{name}\b", page), name


@pytest.mark.extended
def test_api_notebook_cells_run(folder):
    pytest.importorskip("cv2", reason="OpenCV is not installed: the extra photos brings it")
    cells = json.loads((ROOT / "docs" / "api.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    printed = run_example(code, folder)
    assert re.search(r"^The nearest face has the same label in \d+ % of 40 faces\.$", printed, re.M)
    assert re.search(r"^accuracy 0\.\d+ \(95 % CI 0\.\d+-0\.\d+\), macro F1 0\.\d+$", printed, re.M)


def test_shard_format_page_example_reads_the_split(folder):
    code = read_snippets("tfrecords/README.md") + "\nnp.savez('read.npz', images=images, labels=labels)\n"
    assert "fer." not in code.replace("fer2013", "")
    run_python("import sys; sys.modules['tensorflow'] = sys.modules['fer'] = None\n" + code, folder)
    with np.load(folder / "read.npz") as read:
        images, labels = fer.open_dataset(folder / "tfrecords" / "fer2013", "train").arrays()
        np.testing.assert_array_equal(read["images"], images[..., 0])
        np.testing.assert_array_equal(read["labels"], labels)


def test_shard_format_page_example_reads_every_kind_of_record(tmp_path):
    images, labels = factories.images(4), np.array([-1, 6, 0, 3])
    votes = np.arange(40).reshape(4, 10)
    folder = tmp_path / "tfrecords" / "fer2013"
    folder.mkdir(parents=True)
    with open(folder / "a", "wb") as file:
        rows = np.array([0, 5, 300, 40_000])
        file.write(record_writer.encode_records(images.reshape(4, -1), labels, rows, votes))
    (folder / "manifest.json").write_text(json.dumps({"splits": {"train": {"shards": [{"file": "a"}]}}}))
    run_python(read_snippets("tfrecords/README.md") + "\nnp.savez('read.npz', a=images, b=labels)\n", tmp_path)
    with np.load(tmp_path / "read.npz") as read:
        np.testing.assert_array_equal(read["a"], images[..., 0])
        np.testing.assert_array_equal(read["b"], labels)
