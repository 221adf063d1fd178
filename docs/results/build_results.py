"""Builds results.csv and the tables of README.md and the report: python docs/results/build_results.py.

A document holds a table between `<!-- NAME -->` and `<!-- /NAME -->`. report_rows.json lists the rows with their names
in English and Russian. No figure is typed: each comes from an eval.json, predictions.npz, sweep.json, the manifest or
photo_overlap.json.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import pathlib
import re
from typing import Any

import numpy as np

from fer.data import manifest, photo_overlap
from fer.data.photo_overlap import PhotoOverlap
from fer.evaluation import eval_json, prediction_files
from fer.evaluation.metrics import significance, train_overlap
from fer.evaluation.prediction_files import Predictions
from fer.sweep import ablation

RESULTS = pathlib.Path(__file__).resolve().parent
ROOT = RESULTS.parents[1]
BUNDLED_RUN = RESULTS / "runs" / "bundled"
BUNDLED = BUNDLED_RUN / "eval-validation" / "eval.json"
WEIGHTS = ROOT / "fer" / "models" / "bundled" / "weights.npz"
KINDS = {
    "runs": "run",
    "ferplus": "ferplus",
    "ensembles": "ensemble",
    "backbones": "backbone",
    "gpu": "gpu",
    "ablations": "ablation",
}
LABELLED = ("eval-validation", "eval-validation-ferplus")  # evaluations of the bundled network
COLUMNS = (
    "config", "kind", "split", "tta", "labels", "accuracy", "ci_low", "ci_high", "accuracy_without_photos", "macro_f1",
    "parameters", "megabytes", "log_loss", "ece", "path",
)  # fmt: skip

Row = dict[str, Any]
Table = list[list[str]]


def read_json(path: pathlib.Path) -> Any:
    """Returns the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@functools.cache
def validation_photos() -> PhotoOverlap:
    """Returns the PublicTest faces that share a photograph with a Training face."""
    overlaps = photo_overlap.read(manifest.read_manifest(str(RESULTS / "dataset")))
    return overlaps["validation"]


@functools.cache
def photo_scores(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the metrics of an evaluation of PublicTest without shared photographs; {} if it has no predictions."""
    path = folder / "predictions.npz"
    if not path.exists():
        return {}
    found = prediction_files.read_npz(str(path))
    probabilities = prediction_files.normalize(found.probabilities)
    return train_overlap.exclude_photos(validation_photos(), found.rows, found.labels, probabilities)


def evaluations() -> list[Row]:
    """Returns a row for each recorded evaluation, sorted by path."""
    paths = (path for path in RESULTS.rglob("eval.json") if path.relative_to(RESULTS).parts[0] in KINDS)
    return [evaluation(path) for path in sorted(paths)]


def evaluation(path: pathlib.Path) -> Row:
    """Returns the row of an eval.json: a value for each of `COLUMNS`."""
    content = eval_json.read_eval(str(path))
    first, *parts = path.relative_to(RESULTS).parent.parts
    config = "/".join(part for part in parts if not part.startswith("eval-"))
    kind, megabytes = KINDS[first], ""
    if path.is_relative_to(BUNDLED_RUN):
        kind, megabytes = "bundled", f"{WEIGHTS.stat().st_size / 1e6:.1f}"
    values = (
        config, kind, content["split"], content["protocol"]["tta"], content["protocol"]["labels"],
        content["accuracy"], *content["accuracy_ci95"], photo_scores(path.parent).get("accuracy", ""),
        content["macro_f1"], content["parameters"], megabytes, content["log_loss"], content["ece"],
        path.relative_to(ROOT).as_posix(),
    )  # fmt: skip
    return dict(zip(COLUMNS, values))


def results_csv() -> str:
    """Returns the text of results.csv."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in evaluations():
        writer.writerow({name: f"{value:.6f}" if isinstance(value, float) else value for name, value in row.items()})
    return file.getvalue()


def ablations() -> list[dict[str, Any]]:
    """Returns the recorded ablations like `fer.sweep.ablation.estimate_effects`: base, then by falling difference."""
    found = read_json(RESULTS / "ablations" / "changes" / "sweep.json")["changes"]
    return sorted(found, key=lambda entry: (entry["difference"] is not None, -(entry["difference"] or 0)))


def ablation_picture() -> bytes:
    """Returns the differences of the ablations to their base, as a PNG."""
    names = read_json(RESULTS / "report_rows.json")["ablations"]
    return ablation.plot_effects([{**entry, "change": names[entry["change"]]["en"]} for entry in ablations()])


def fill(text: str, tables: dict[str, Table]) -> str:
    """Returns a document with each table between its markers.

    Raises:
      ValueError: a marker has no end, or names no table.
    """
    for name in re.findall(r"<!-- (\w+) -->", text):
        if name not in tables:
            raise ValueError(f"<!-- {name} --> names no table; there are {', '.join(tables)}.")
        if f"<!-- /{name} -->" not in text:
            raise ValueError(f"<!-- {name} --> has no <!-- /{name} --> after it.")
    for name, table in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(
            pattern, lambda found, table=table: f"{found[1]}\n{markdown(table)}\n{found[2]}", text, flags=re.S
        )
    return text


def markdown(table: Table) -> str:
    """Returns a table, whose first row is its head, as Markdown."""
    head, *body = table
    return "".join("| " + " | ".join(row) + " |\n" for row in [head, ["---"] * len(head), *body])


def interval(row: Row) -> str:
    """Returns an accuracy with its 95 % confidence interval."""
    accuracy, low, high = (100 * row[name] for name in ("accuracy", "ci_low", "ci_high"))
    return f"{accuracy:.1f} % (95 % CI {low:.1f}-{high:.1f})"


def interval_cell(row: Row) -> str:
    """Returns an accuracy with its interval for a column whose heading names them: "72.9 (71.5-74.4)"."""
    accuracy, low, high = (100 * row[name] for name in ("accuracy", "ci_low", "ci_high"))
    return f"{accuracy:.1f} ({low:.1f}-{high:.1f})"


def millions(parameters: int) -> str:
    """Returns a number of parameters in millions, with two digits at least, without the unit."""
    return f"{parameters / 1e6:.{1 if parameters >= 1e6 else 2}f}"


def percentage(share: float) -> str:
    """Returns a share in percent, without the unit."""
    return f"{100 * share:.1f}"


def other_faces_cell(row: Row) -> str:
    """Returns the accuracy without shared photographs in percent, without the unit; "-" if it is unknown."""
    return percentage(row["accuracy_without_photos"]) if row["accuracy_without_photos"] != "" else "-"


def percent(share: float) -> str:
    """Returns a share in percent."""
    return f"{percentage(share)} %"


def count_and_share(count: int, total: int) -> str:
    """Returns a count and its share of the total in percent."""
    return f"{count:,} ({percent(count / total)})"


def headline_table() -> Table:
    """Returns the README's table: best single network, best ensemble, bundled network, `compact`."""
    rows = [row for row in evaluations() if row["labels"] == "fer"]
    runs, ensembles = ([row for row in rows if row["kind"] == kind] for kind in ("run", "ensemble"))
    chosen = {
        "Best single network": max(runs, key=lambda row: row["accuracy"]),
        "Best ensemble": max(ensembles, key=lambda row: row["accuracy"]),
        "Bundled network": evaluation(BUNDLED),
        "Compact network": next(row for row in runs if row["config"] == "compact" and row["tta"] == "none"),
    }
    heads = "network", "flip at test time", "accuracy on PublicTest", "without shared photographs, %", "macro F1"
    table = [["", *heads, "parameters"]]
    for name, row in chosen.items():
        flip = {"flip": "yes", "none": "no"}[row["tta"]]
        figures = [interval(row), other_faces_cell(row), f"{row['macro_f1']:.3f}", f"{millions(row['parameters'])} M"]
        table.append([name, f"[`{row['config']}`]({row['path']})", flip, *figures])
    return table


class Report:
    """The tables of the report in one language, "en" or "ru"."""

    def __init__(self, language: str):
        self.language = language
        self.rows = read_json(RESULTS / "report_rows.json")
        self.manifest = read_json(RESULTS / "dataset" / "manifest.json")

    def tables(self) -> dict[str, Table]:
        """Returns each table by the name of its marker."""
        bodies = {
            "data": self.data(), "classes": self.classes(), "backbones": self.backbones(), "results": self.results(),
            "photos": self.photos(), "recalls": self.recalls(), "labels": self.labels(),
            "robustness": self.robustness(), "changes": self.changes(), "ablations": self.ablations(),
        }  # fmt: skip
        return {name: [self.text(self.rows["headings"][name]), *body] for name, body in bodies.items()}

    def text(self, names: dict[str, Any]) -> Any:
        """Returns the name in the report's language."""
        return names[self.language]

    def figure(self, text: str) -> str:
        """Returns a figure as the language writes it: Russian has decimal commas and no-break spaces in thousands."""
        if self.language == "en":
            return text
        text = re.sub(r"(?<=\d),(?=\d{3}\b)", "\N{NO-BREAK SPACE}", text)
        text = re.sub(r"(?<=\d)\.(?=\d)", ",", text)
        text = re.sub(r"-(?=\d)", "\N{MINUS SIGN}", re.sub(r"(?<=\d)-(?=\d)", "\N{EN DASH}", text))
        return text.replace(" to ", "…").replace(", ", "; ")

    def link(self, text: str, row: Row) -> str:
        """Returns a link from the report to an evaluation."""
        return f"[{text}]({row['path'].removeprefix('docs/')})"

    def data(self) -> Table:
        """Returns the findings of the audit."""
        audit, votes = self.manifest["audit"], self.manifest["audit"]["ferplus"]
        leaked, duplicates = audit["leakage"]["validation"], audit["exact_duplicates"]
        validation, photos = self.manifest["splits"]["validation"]["examples"], validation_photos()
        private = read_json(RESULTS / "dataset" / "private_test_overlap.json")
        figures = {
            "rows": f"{audit['rows']:,}",
            "distinct_images": f"{audit['distinct_images']:,}",
            "duplicate_groups": f"{duplicates['groups']:,}",
            "conflicting_groups": f"{duplicates['conflicting_groups']:,}",
            "identical_to_train": count_and_share(leaked["identical_to_train"], validation),
            "near_identical_to_train": f"{leaked['near_identical_to_train']:,}",
            "share_a_photograph": count_and_share(len(photos.rows), photos.examples),
            "private_identical_to_train": count_and_share(private["identical_to_train"], private["examples"]),
            "private_share_a_photograph": count_and_share(private["share_a_photograph"], private["examples"]),
            "constant": f"{audit['blank']['constant']:,}",
            "not_a_face": f"{sum(votes['not_a_face'].values()):,}",
            "majority": f"{votes['majority_is_one_of_the_seven']:,}",
            "agreement": percent(votes["agreement"]),
            "agreement_where_unanimous": percent(votes["agreement_where_unanimous"]),
        }
        return [[self.text(row), self.figure(figures[row["key"]])] for row in self.rows["data"]]

    def classes(self) -> Table:
        """Returns the size of each class and how often FER+'s majority confirms its labels, by falling agreement."""
        counts, votes = self.manifest["splits"]["train"]["class_counts"], self.manifest["audit"]["ferplus"]
        table = []
        for name, agreement in sorted(votes["agreement_by_class"].items(), key=lambda each: -each[1]):
            figures = f"{counts[name]:,}", percentage(counts[name] / sum(counts.values())), percentage(agreement)
            table.append([self.text(self.rows["classes"][name]), *map(self.figure, figures)])
        return table

    def backbones(self) -> Table:
        """Returns the backbones that were trained on one budget, on two cores and on a GPU."""
        table = []
        for entry in self.rows["backbones"]:
            folders = [RESULTS / kind / entry[kind] if entry[kind] else None for kind in ("backbones", "gpu")]
            found = [folder and evaluation(folder / "eval-validation" / "eval.json") for folder in folders]
            sizes = ", ".join(dict.fromkeys(str(image_size(folder)) for folder in folders if folder))
            parameters = next(row["parameters"] for row in found if row)
            shown = [self.link(self.figure(interval_cell(row)), row) if row else "-" for row in found]
            cells = [entry["name"], self.text(entry), self.figure(sizes), self.figure(millions(parameters))]
            table.append([*cells, *shown])
        return table

    def results(self) -> Table:
        """Returns the main results."""
        table = []
        for entry in self.rows["results"]:
            row = evaluation(RESULTS / entry["path"] / "eval.json")
            losses = (f"{row[name]:.3f}" for name in ("macro_f1", "log_loss", "ece"))
            figures = interval_cell(row), other_faces_cell(row), *losses, millions(row["parameters"])
            flip = self.text(self.rows["tta"][row["tta"]])
            table.append([self.link(self.text(entry), row), flip, *map(self.figure, figures)])
        return table

    def photos(self) -> Table:
        """Returns accuracies on faces with and without a shared photograph, and with a lookup of labels."""
        table = []
        for entry in self.rows["photos"]:
            folder = RESULTS / entry["path"]
            row, scores = evaluation(folder / "eval.json"), photo_scores(folder)
            found = prediction_files.read_npz(str(folder / "predictions.npz"))
            shared = np.isin(found.rows, validation_photos().rows)
            standardized = (standardized_accuracy(found, kept) for kept in (~shared, shared))
            figures = row["accuracy"], scores["accuracy"], *standardized, scores["lookup_accuracy"]
            table.append([self.link(self.text(entry), row), *map(self.figure, map(percentage, figures))])
        return table

    def recalls(self) -> Table:
        """Returns precision, recall and the most frequent mistake of the bundled network, class by class."""
        content = eval_json.read_eval(str(BUNDLED))
        names = [self.text(self.rows["classes"][name]) for name in content["classes"]]
        table = []
        for place, (name, counts) in enumerate(zip(content["classes"], content["confusion_matrix"])):
            count, other = max((each, at) for at, each in enumerate(counts) if at != place)
            found = content["per_class"][name]
            figures = percentage(found["precision"]), percentage(found["recall"]), f"{found['f1']:.3f}"
            taken = f"{names[other]}, {self.figure(percentage(count / sum(counts)))}"
            table.append([names[place], *map(self.figure, figures), taken])
        return table

    def labels(self) -> Table:
        """Returns the accuracy of the bundled network against both kinds of labels, by agreement of the FER+ raters."""
        found = [eval_json.read_eval(str(BUNDLED_RUN / folder / "eval.json")) for folder in LABELLED]
        agreement = [{each["votes"]: each for each in content["accuracy_by_agreement"]} for content in found]
        table = []
        for entry in self.rows["labels"]:
            parts = found if entry["votes"] is None else [each[entry["votes"]] for each in agreement]
            figures = (figure for part in parts for figure in (f"{part['examples']:,}", percentage(part["accuracy"])))
            table.append([self.text(entry), *map(self.figure, figures)])
        return table

    def robustness(self) -> Table:
        """Returns the accuracy of the bundled network on corrupted faces, the points lost, and those of `dlib_long`."""
        contents = [
            read_json(run / "robustness" / "corruptions.json") for run in (BUNDLED_RUN, RESULTS / "runs" / "dlib_long")
        ]
        table = []
        for entry in self.rows["robustness"]:
            kinds = [content["kinds"][entry["key"]] for content in contents]
            accuracies = [kind["accuracy"][kind["levels"].index(entry["level"])] for kind in kinds]
            lost = [content["accuracy"] - accuracy for content, accuracy in zip(contents, accuracies)]
            table.append([self.text(entry), *map(self.figure, map(percentage, [accuracies[0], *lost]))])
        return table

    def changes(self) -> Table:
        """Returns pairs of evaluations of the same faces with McNemar's test, on all and without shared photographs."""
        table = []
        for entry in self.rows["changes"]:
            before, after = (RESULTS / entry[side] for side in ("before", "after"))
            pair = [prediction_files.read_npz(str(folder / "predictions.npz")) for folder in (before, after)]
            others = ~np.isin(pair[0].rows, validation_photos().rows)
            on_all, on_others = (compare(*(each.correct[kept] for each in pair)) for kept in (slice(None), others))
            accuracies = ", ".join(f"{100 * each.correct.mean():.1f}" for each in pair)
            row = evaluation(after / "eval.json")
            table.append([self.link(self.text(entry), row), *map(self.figure, (accuracies, *on_all, *on_others))])
        return table

    def ablations(self) -> Table:
        """Returns the ablations."""
        table = []
        for entry in ablations():
            difference = "-"
            if entry["difference"] is not None:
                ends = (entry["difference"], *entry["difference_ci95"])
                difference = "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * each for each in ends))
            accuracies = ", ".join(f"{100 * each:.1f}" for each in entry["accuracies"])
            figures = accuracies, difference, f"{entry['macro_f1']:.3f}", f"{entry['minutes']:.1f}"
            table.append([self.text(self.rows["ablations"][entry["change"]]), *map(self.figure, figures)])
        return table


def standardized_accuracy(found: Predictions, kept: np.ndarray) -> float:
    """Returns the accuracy on some faces if they had the class frequencies of all: the mean recall by these weights."""
    shares = np.bincount(found.labels) / len(found.labels)
    recalls = [found.correct[kept & (found.labels == label)].mean() for label in range(len(shares))]
    return float(shares @ recalls)


def compare(before: np.ndarray, after: np.ndarray) -> tuple[str, str]:
    """Returns the difference of two accuracies in points, and McNemar's p, from the correctness of each prediction."""
    p = significance.mcnemar(before, after).p
    return f"{100 * (after.mean() - before.mean()):+.1f}", f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def image_size(run: pathlib.Path) -> int:
    """Returns the side of the images that a recorded run was trained on; 0 in its config is the backbone's default."""
    model = read_json(run / "config.json")["config"]["model"]
    listed = read_json(ROOT / "fer" / "models" / "model_table.json")
    return model["image_size"] or next(entry["size"] for entry in listed if entry["name"] == model["name"])


def documents() -> dict[str, str]:
    """Returns the documents with their tables, by path from the repository's root."""
    tables = {
        "README.md": {"results": headline_table()},
        "docs/report.md": Report("en").tables(),
        "docs/report.ru.md": Report("ru").tables(),
    }
    return {path: fill((ROOT / path).read_text(encoding="utf-8"), tables[path]) for path in tables}


def main() -> None:
    texts = {"docs/results/results.csv": results_csv(), **documents()}
    for path, text in texts.items():
        (ROOT / path).write_text(text, encoding="utf-8")
    (RESULTS / "ablations" / "changes.png").write_bytes(ablation_picture())
    print(f"Wrote {', '.join(texts)} and docs/results/ablations/changes.png.")


if __name__ == "__main__":
    main()
