"""One conversion: any published form of FER-2013 -> validated TFRecord shards and their manifest."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

import fer
from fer import storage
from fer.convert import atomic_dir, ferplus, ingest, shard_writer, splits
from fer.convert.audit import audit, audit_html, duplicates
from fer.convert.ferplus import Votes
from fer.convert.ingest import IngestedDataset
from fer.convert.options import Options
from fer.convert.readers import archives, formats, image_reader, label_map
from fer.convert.readers.interpretation import Rules
from fer.convert.rejected_rows import RejectedRows
from fer.convert.rows import NO_SPLIT, SPLITS
from fer.convert.worker_pool import ParserPool
from fer.data import manifest
from fer.data.manifest import Manifest
from fer.errors import UserError
from fer.io import files
from fer.io.temp_store import TempStore
from fer.labels import CLASSES, PIXELS
from fer.progress import ReadProgress
from fer.synthetic import synthetic


def convert(options: Options) -> Manifest:
    """Converts the input, prints what was found, and returns the manifest of the output folder.

    Raises:
      UserError: the input is missing, damaged or has a bad row; or the output exists or cannot be written to. The
        output is then as it was before.
    """
    options.check()
    options = options.expanded()
    output = options.output
    storage.register_filesystems(output, options.ferplus, options.input, options.label_map)
    rules = Rules(label_map.parse_label_map(options.label_map), options.fit)
    workers = options.workers or os.cpu_count() or 1
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(atomic_dir.atomic_directory(output, options.overwrite))
        store = stack.enter_context(contextlib.closing(TempStore(folder)))
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(workers))
        rejects = stack.enter_context(contextlib.closing(RejectedRows(_quarantine_folder(options, folder))))
        given = ferplus.read_votes(options.ferplus) if options.ferplus else None
        paths, names = stack.enter_context(_open_inputs(options, folder))
        size = sum(map(archives.total_bytes, paths))
        crew = stack.enter_context(contextlib.closing(ParserPool(workers, size)))
        progress = stack.enter_context(ReadProgress("Reading", size))
        survey = ingest.ingest_sources(paths, names, crew, pool, workers, store, rejects, progress, rules)
        progress.close()
        rejects.close()
        if not len(survey.labels):
            raise UserError(f"{options.input} holds no face: none of its rows is valid.")
        _write_output(folder, options, survey, store, rejects, given, pool, workers)
    return manifest.read_manifest(output)


def train_statistics(survey: IngestedDataset, train: np.ndarray) -> dict[str, float | None]:
    """Returns mean and standard deviation, in [0, 1], of the pixels of the faces in `train`, bool [n].

    The sums are exact integers.
    """
    sums, squares = survey.prints.sums[train], survey.prints.squares[train]
    return manifest.pixel_statistics(int(train.sum()) * PIXELS, int(sums.sum()), int(squares.sum()))


def _write_output(
    folder: str,
    options: Options,
    survey: IngestedDataset,
    store: TempStore,
    rejects: RejectedRows,
    given: Votes | None,
    pool: concurrent.futures.Executor,
    workers: int,
) -> None:
    """Writes everything that follows the reading: splits, audit, shards, and the manifest last."""
    joined = None
    if given is not None:
        for source in survey.sources:
            if formats.IMAGE_FOLDER in source.form:
                raise UserError(
                    f"{options.ferplus} refers to rows of fer2013.csv, and the pictures in {source.path} have no row "
                    "numbers: leave out --ferplus, or convert the CSV."
                )
        joined = ferplus.join_votes(given, options.ferplus, survey.rows, survey.splits, survey.source_rows)
        ferplus.check_agreement(joined, survey.labels, survey.rows, os.path.basename(options.ferplus.rstrip("/")))
    found = duplicates.find_duplicates(survey.prints)
    divided = splits.assign_splits(survey.splits, survey.labels, found.near, options.seed)
    findings = audit.audit(survey, divided, found, joined)
    kept, dropped = audit.drop_rows(findings, divided, options.drop)
    if not (kept >= 0).any():
        raise UserError(
            f"--drop={','.join(options.drop)} leaves no face of {options.input}, since all of them are in the train "
            "split: drop less, or convert another input."
        )
    counts = None if joined is None else joined.counts
    written = shard_writer.write_shards(folder, survey, kept, counts, store, options.shards, pool, workers)
    name = re.split(r"[.:]", survey.sources[0].path)[0] or "faces"
    summary = {
        **_ingest_summary(survey, rejects),
        "divided": _count_assigned_splits(survey.splits, divided),
        **findings.summary,
        "dropped": dropped,
    }
    page = audit_html.render_page(name, summary, findings, survey, divided, store)
    files.write_text(os.path.join(folder, "audit.html"), page)
    files.write_json(os.path.join(folder, "audit.json"), {**summary, "rows_of": audit.list_rows(findings, survey)})
    if options.preview:
        from fer.convert.audit import audit_plots  # loads matplotlib, which takes a second

        audit_plots.write_plots(folder, written, survey, kept, store, options.seed)
    _write_manifest(
        folder, name, options, survey, train_statistics(survey, kept == SPLITS.index("train")), written, summary
    )


def _ingest_summary(survey: IngestedDataset, rejects: RejectedRows) -> dict[str, Any]:
    """Returns the counts of the reading, as they stand in the manifest's `audit`."""
    return {
        "rows": survey.source_rows,
        "faces": len(survey.labels),
        "blank_lines": survey.blank_lines,
        "rejected": dict(sorted(rejects.counts.items())),
        "left_out": survey.excluded,
        **{name: survey.altered.get(name, 0) for name in image_reader.ALTERATIONS},
        "passed_over": dict(survey.passed_over),
        "label_map": dict(survey.label_map),
    }


@contextlib.contextmanager
def _open_inputs(options: Options, folder: str) -> Iterator[tuple[list[str], list[str]]]:
    """Yields the paths to read and their names; synthetic faces are written to a temporary file first."""
    rows = options.synthetic_rows()
    if rows is None:
        paths = options.paths()
        yield paths, [os.path.basename(path) for path in paths]
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=".synthetic-") as place:
        path = os.path.join(place, "synthetic.csv")
        synthetic.write_csv(path, rows, options.seed)
        yield [path], [f"synthetic:{rows}"]


def _count_assigned_splits(given: np.ndarray, splits: np.ndarray) -> dict[str, int]:
    """Returns the faces per split of those for which the input names none; {} if the input names each."""
    unassigned = given < 0
    if not (given == NO_SPLIT).any() and (splits[unassigned] == SPLITS.index("train")).all():
        return {}
    counts = np.bincount(splits[unassigned], minlength=len(SPLITS)).tolist()
    return {name: count for name, count in zip(SPLITS, counts) if count}


def _quarantine_folder(options: Options, folder: str) -> str | None:
    """Returns the folder for rejects.csv; None if a bad row stops the conversion."""
    return folder if options.on_bad_row == "quarantine" else None


def _combine_sha256(sums: list[str]) -> str:
    """Returns one SHA-256 for several inputs: that of a single one, otherwise the SHA-256 of their lines."""
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


def _write_manifest(
    folder: str,
    name: str,
    options: Options,
    survey: IngestedDataset,
    train: dict[str, float | None],
    written: dict[str, manifest.Split],
    summary: dict[str, Any],
) -> None:
    """Writes manifest.json, which completes the output folder."""
    sources = survey.sources
    manifest.write_manifest(
        folder,
        {
            "format_version": manifest.FORMAT_VERSION,
            "name": name,
            "classes": list(CLASSES),
            "image": manifest.IMAGE_FORMAT,
            "splits": {
                split.name: {
                    "examples": split.examples,
                    "class_counts": split.class_counts,
                    "shards": [dataclasses.asdict(shard) for shard in split.shards],
                }
                for split in written.values()
            },
            "statistics": train,
            "source": {
                "path": ",".join(source.path for source in sources),
                "sha256": _combine_sha256([source.sha256 for source in sources]),
                "rows": survey.source_rows,
                "inputs": [dataclasses.asdict(source) for source in sources],
            },
            "audit": summary,
            "options": options.recorded(),
            "created_by": f"fer {fer.__version__}",
        },
    )
