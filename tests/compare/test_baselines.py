"""Tests of `fer.compare.baselines` with a small package that is installed from a local file, without a network."""

import io
import json
import pathlib
import pickle
import zipfile

import numpy as np
import pytest

from fer.compare import baselines, comparison, comparison_report
from fer.errors import UserError
from fer.evaluation.metrics import metrics
from fer.labels import CLASSES
from fer.viz import comparison_plot
from tests.compare.test_comparison import evaluated
from tests.evaluation import factories
from tests.evaluation.test_eval_json import build
from tests.shared import shared_folder

COUNT = 40
IMAGES = factories.images(COUNT)
LABELS = np.arange(COUNT) % 7
WEIGHTS = np.random.default_rng(0).normal(0, 1, (36, 7)).astype(np.float32)
# A network of one layer, on the mean of each block of 8x8 pixels. Its module must not be confused with ours.
RUNNER = """
import fer_tiny, harness, numpy as np

def load(scale):
    weights = np.load(harness.file_of("fer-tiny", "fer_tiny.npy"))
    def classify(images):
        blocks = images.reshape(len(images), 6, 8, 6, 8).mean(axis=(2, 4)).reshape(len(images), 36)
        scores = np.exp((blocks / 255 - 0.5) @ weights * float(scale))
        return scores / scores.sum(axis=1, keepdims=True)
    return classify, weights.size

if __name__ == "__main__":
    harness.run(load)
"""


def wheel(folder: pathlib.Path) -> pathlib.Path:
    """Writes a wheel of a package fer-tiny 1.0 with weights; a .pth file makes the NumPy of this test importable."""
    weights, metadata = io.BytesIO(), "fer_tiny-1.0.dist-info"
    np.save(weights, WEIGHTS)
    contents = {
        "fer_tiny.py": "",
        "fer_tiny.npy": weights.getvalue(),
        "numpy_of_the_test.pth": str(pathlib.Path(np.__file__).parents[1]) + "\n",
        f"{metadata}/METADATA": "Metadata-Version: 2.1\nName: fer-tiny\nVersion: 1.0\nRequires-Dist: nowhere\n",
        f"{metadata}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    contents[f"{metadata}/RECORD"] = "".join(f"{name},,\n" for name in [*contents, f"{metadata}/RECORD"])
    path = folder / "fer_tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> pathlib.Path:
    """Returns a folder of the package, shards and runners; cache/ and measured.pickle are results of `measure`."""
    return shared_folder(tmp_path_factory, "peers", fill)


def fill(folder: pathlib.Path) -> None:
    """Fills the shared folder."""
    factories.shards(folder / "faces", {"validation": (IMAGES, LABELS)})
    runners = folder / "runners"
    runners.mkdir()
    (runners / "tiny.py").write_text(RUNNER)
    (runners / "harness.py").write_text((baselines.RUNNERS / "harness.py").read_text())
    (runners / "dies.py").write_text("raise RuntimeError('the weights are of another version')")
    halves = "import sys, numpy\nnumpy.savez(sys.argv[2], probabilities=numpy.ones((3, 7)), seconds=1, parameters=1)"
    (runners / "halves.py").write_text(halves)
    (runners / "silent.py").write_text("")
    (folder / "measured.pickle").write_bytes(pickle.dumps(measure(folder)))


def make_baseline(
    folder: pathlib.Path, runner: str = "tiny.py", packages: tuple = (), runner_args: tuple = ()
) -> baselines.Baseline:
    packages = packages or (f"fer-tiny @ {(folder / 'fer_tiny-1.0-py3-none-any.whl').as_uri()}",)
    return baselines.Baseline(
        runner.split(".")[0], packages, (), str(folder / "runners" / runner), runner_args, "a test"
    )


def measure(folder: pathlib.Path) -> tuple[list[baselines.BaselineResult], list[str]]:
    """Measures two baselines of one environment and one whose package does not exist; also returns the progress."""
    wheel(folder)
    missing = make_baseline(folder, packages=(f"gone @ {(folder / 'gone-1.0-py3-none-any.whl').as_uri()}",))
    steps: list[str] = []
    chosen = [make_baseline(folder, runner_args=("1",)), make_baseline(folder, runner_args=("-1",)), missing]
    results = baselines.measure(chosen, str(folder / "faces"), "validation", str(folder / "cache"), steps.append)
    return results, steps


@pytest.fixture(scope="module")
def measured(folder) -> list[baselines.BaselineResult]:
    return pickle.loads((folder / "measured.pickle").read_bytes())[0]


@pytest.fixture(scope="module")
def steps(folder) -> list[str]:
    return pickle.loads((folder / "measured.pickle").read_bytes())[1]


def expected(scale: float) -> np.ndarray:
    """Returns the probabilities of the small network."""
    scores = (IMAGES.reshape(COUNT, 6, 8, 6, 8).mean(axis=(2, 4)).reshape(COUNT, 36) / 255 - 0.5) @ WEIGHTS * scale
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def test_baseline_is_installed_and_classifies_the_split(measured):
    for result, scale in zip(measured, (1, -1)):
        np.testing.assert_allclose(result.predictions.probabilities, expected(scale), rtol=1e-5)
        np.testing.assert_array_equal(result.predictions.labels, LABELS)
        np.testing.assert_array_equal(result.predictions.rows, 1000 + np.arange(COUNT))
        assert (result.parameters, result.failure) == (WEIGHTS.size, None)
        assert result.images_per_second > 0


def test_baselines_of_same_packages_share_an_environment(measured, folder, steps):
    assert [path.name.startswith("unfinished") for path in (folder / "cache").iterdir()] == [False]
    assert len(steps) == 5, "two were prepared and measured, one only prepared"


def test_baseline_error_names_failed_installation_with_pip_reason(measured):
    assert measured[2].predictions is None
    assert measured[2].failure.startswith("could not be installed (ERROR: ")
    assert "gone-1.0-py3-none-any.whl" in measured[2].failure


@pytest.mark.parametrize(
    ("runner", "failure"),
    [
        ("dies.py", "failed on these faces (RuntimeError: the weights are of another version)"),
        ("halves.py", "its output is not a probability of each of seven classes for each face"),
        ("silent.py", "it wrote no readable probabilities"),
    ],
)
def test_baseline_error_names_failed_run_with_its_reason(measured, folder, runner, failure):
    (result,) = baselines.measure(
        [make_baseline(folder, runner)], str(folder / "faces"), "validation", str(folder / "cache")
    )
    assert failure in result.failure
    assert result.predictions is None


def test_measure_baselines_error_names_folder_when_the_disk_is_full(measured, folder, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(baselines, "_run", fail)
    with pytest.raises(UserError, match=r"^Cannot write the faces for .* to /.*: No space left on device"):
        measure(folder)


@pytest.fixture(scope="module")
def compared(measured, folder) -> dict:
    """Compares the baselines with a run of ours on the same faces."""
    fields = {"data": measured[0].data, "protocol": {**build()["protocol"], "labels": "fer"}}
    path = evaluated(folder / "ours", range(3), 1000, LABELS, **fields)
    return comparison.compare([path], measured)


def test_compare_computes_our_metrics_for_baselines(compared):
    for found in compared["baselines"][:2]:
        scale = 1 if found["accuracy"] == (expected(1).argmax(axis=1) == LABELS).mean() else -1
        figures = metrics.compute_metrics(LABELS, expected(scale), CLASSES)
        assert found["accuracy_ci95"] == figures["accuracy_ci95"]
        assert found["macro_f1"] == pytest.approx(figures["macro_f1"])
        assert not found["comparable"]
        assert "not the test split" in found["remark"]
    assert compared["baselines"][2]["accuracy"] is None
    assert compared["baselines"][2]["remark"].startswith("not measured: it could not be installed (ERROR")


def test_compare_tests_each_baseline_against_each_run(compared):
    assert [pair["first"] for pair in compared["pairs"]] == ["ours", "ours"]
    predicted = LABELS.copy()
    predicted[:3] = (predicted[:3] + 1) % 7
    ours, theirs = predicted == LABELS, expected(1).argmax(axis=1) == LABELS
    counts = {(pair["only_first"], pair["only_second"]) for pair in compared["pairs"]}
    assert (int((ours & ~theirs).sum()), int((theirs & ~ours).sum())) in counts
    assert all("McNemar p = " in pair["sentence"] for pair in compared["pairs"])


def test_comparison_files_all_hold_the_baselines(compared, tmp_path, figures):
    comparison_report.write(compared, str(tmp_path))
    assert json.loads((tmp_path / "comparison.json").read_text()) == compared
    text, page = ((tmp_path / f"comparison.{kind}").read_text() for kind in ("md", "html"))
    assert text.count("\n| tiny |") == page.count('<tr class="baselines">') == 3
    assert text.count("not measured: it could not be installed") == 1


def test_comparison_plot_draws_only_measured_baselines(compared, figures):
    def names(*shown) -> list[str]:
        comparison_plot.accuracy_by_parameters(compared["runs"], shown, [])
        return [text.get_text() for axes in figures[-1].axes for text in axes.texts]

    first, second, absent = compared["baselines"]
    ours = names()
    assert names(first) == [*ours, f"{100 * first['accuracy']:.1f}  tiny"]
    assert names(first, second, absent) == names(first, second) == [*names(first), names(second)[-1]]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("true", baselines.DEFAULT),
        ("false", ()),
        ("all", tuple(baselines.BASELINES)),
        ("facial-emotion-recognition,fer-tflite", ("facial-emotion-recognition", "fer-tflite")),
    ],
)
def test_baselines_flag_without_value_selects_quickly_installed_baselines(value, names):
    assert baselines.parse_baselines(value) == [baselines.BASELINES[name] for name in names]


def test_baselines_flag_error_names_unknown_baseline():
    with pytest.raises(UserError, match="--baselines names 'rival', which is none of fer-tflite"):
        baselines.parse_baselines("fer-tflite,rival")


def test_baselines_have_runners_and_pinned_packages():
    for each in baselines.BASELINES.values():
        assert pathlib.Path(each.runner).is_file()
        wanted = [part for part in (*each.packages, *each.requirements) if not part.startswith("--")]
        assert all("==" in requirement for requirement in wanted)
