"""One conversion: tables or pictures of faces in any form -> validated TFRecord shards and their manifest."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
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
from fer.convert.readers import formats, image_reader
from fer.convert.readers.interpretation import Rules
from fer.convert.rejected_rows import RejectedRows
from fer.convert.rows import NO_SPLIT, SPLITS
from fer.convert.worker_pool import ParserPool
from fer.data import manifest
from fer.data.manifest import Manifest
from fer.errors import UserError
from fer.io import files
from fer.io.temp_store import TempStore
from fer.labels import CLASS_SETS, PIXELS
from fer.progress import ReadProgress
from fer.synthetic import synthetic


def convert(options: Options, parsers: ParserPool | None = None) -> Manifest:
    """Converts the input, prints the findings, and returns the manifest of the output folder.

    Args:
      options: what to convert, and how.
      parsers: started already, closed here; None starts them here.

    Raises:
      UserError: the input is missing, damaged or has a bad row; or the output exists or cannot be written to. The
        output is then as it was before.
    """
    options.check()
    options = options.expand_paths()
    output = options.output
    storage.check_slashes(output, options.ferplus, options.input, options.label_map)
    rules = Rules(options.parse_labels(), options.fit)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(atomic_dir.atomic_directory(output, options.overwrite))
        store = stack.enter_context(contextlib.closing(TempStore(folder)))
        rejects = stack.enter_context(contextlib.closing(RejectedRows(_quarantine_folder(options, folder))))
        votes = ferplus.read_votes(options.ferplus) if options.ferplus else None
        inputs = stack.enter_context(_open_inputs(options, folder))
        size = sum(formats.total_bytes(path) for path, _ in inputs)
        # Closed before the folder is removed after an error: its threads write there.
        parsers = stack.enter_context(contextlib.closing(parsers or ParserPool(options.workers, size)))
        progress = stack.enter_context(ReadProgress("Reading", size))
        dataset = ingest.ingest_sources(inputs, parsers, store, rejects, progress, rules)
        progress.close()
        rejects.close()
        if not len(dataset.labels):
            raise UserError(f"{options.input} holds no face: none of its rows is valid.")
        _write_output(folder, options, dataset, rejects, votes, parsers)
    return manifest.read_manifest(output)


def train_statistics(dataset: IngestedDataset, train: np.ndarray) -> dict[str, float | None]:
    """Returns mean and standard deviation, in [0, 1], of the pixels of the faces in `train`, bool [n].

    The sums are exact integers.
    """
    sums, squares = dataset.hashes.sums[train], dataset.hashes.squares[train]
    return manifest.pixel_statistics(int(train.sum()) * PIXELS, int(sums.sum()), int(squares.sum()))


def _write_output(
    folder: str,
    options: Options,
    dataset: IngestedDataset,
    rejects: RejectedRows,
    votes: Votes | None,
    parsers: ParserPool,
) -> None:
    """Writes everything that follows the reading: splits, audit, shards, and the manifest last."""
    counts, left_out = None, None
    if votes is not None:
        votes = _join_votes(votes, options, dataset)
        counts = votes.counts
        if options.labels_are_votes():
            dataset, counts, left_out = _label_by_votes(dataset, votes)
            votes = None  # there are no other labels with which they could agree
    search = parsers.executor.submit(duplicates.find_duplicates, dataset.hashes, dataset.read_faces)
    write = functools.partial(
        shard_writer.write_shards, folder, dataset, votes=counts, shards=options.shards, parsers=parsers
    )
    # If no split depends on duplicates, the shards are written during the search for them.
    written = write(dataset.splits) if not options.drop and (dataset.splits >= 0).all() else None
    groups = search.result()
    assigned = splits.assign_splits(dataset.splits, dataset.labels, groups.near, options.seed)
    findings = audit.audit(dataset, assigned, groups, votes)
    remaining, dropped = _drop_rows(findings, assigned, options)
    written = write(remaining) if written is None else written
    for name, rows in audit.find_train_duplicates(groups, remaining, dataset.rows).items():
        if name in written:
            written[name] = dataclasses.replace(written[name], train_duplicates=rows)
    summary = {
        **_ingest_summary(dataset, rejects),
        "divided": _count_assigned_splits(dataset.splits, assigned),
        **findings.summary,
        **({} if left_out is None else {"ferplus_labels": left_out}),
        "dropped": dropped,
    }
    page = audit_html.render_page(_dataset_name(dataset), summary, findings, dataset, assigned)
    files.write_text(os.path.join(folder, "audit.html"), page)
    files.write_json(os.path.join(folder, "audit.json"), {**summary, "rows_of": audit.list_rows(findings, dataset)})
    if options.preview:
        from fer.convert.audit import audit_plots  # loads matplotlib, which takes a second

        audit_plots.write_plots(folder, written, dataset, remaining, options.seed)
    statistics = train_statistics(dataset, remaining == SPLITS.index("train"))
    _write_manifest(folder, options, dataset, statistics, written, summary)


def _drop_rows(findings: audit.Audit, splits: np.ndarray, options: Options) -> tuple[np.ndarray, dict[str, Any]]:
    """Excludes rows from the train split as `audit.drop_rows`.

    Raises:
      UserError: no face remains in any split.
    """
    remaining, dropped = audit.drop_rows(findings, splits, options.drop)
    if not (remaining >= 0).any():
        raise UserError(
            f"--drop={','.join(options.drop)} leaves no face of {options.input}, since all of them are in the train "
            "split: drop less, or convert another input."
        )
    return remaining, dropped


def _join_votes(votes: Votes, options: Options, dataset: IngestedDataset) -> Votes:
    """Returns the votes on the faces of a data set.

    Raises:
      UserError: the faces have no row numbers, or the votes are not of these faces.
    """
    for source in dataset.sources:
        if formats.IMAGE_FOLDER in source.form:
            raise UserError(
                f"{options.ferplus} refers to rows of fer2013.csv, and the pictures in {source.path} have no row "
                "numbers: leave out --ferplus, or convert the CSV."
            )
    joined = ferplus.join_votes(votes, options.ferplus, dataset.rows, dataset.splits, dataset.source_rows)
    ferplus.check_agreement(joined, dataset.labels, dataset.rows, os.path.basename(options.ferplus.rstrip("/")))
    return joined


def _label_by_votes(dataset: IngestedDataset, votes: Votes) -> tuple[IngestedDataset, np.ndarray, dict[str, Any]]:
    """Returns the faces that have a label by the majority of their votes, with it, and their votes [n, 10].

    Returns:
      Also the rule, and the faces that are left out per split and reason, for the manifest.

    Raises:
      UserError: no face has such a label.
    """
    labels = votes.ferplus_labels()
    kept = labels >= 0
    if not kept.any():
        raise UserError("None of the faces has a majority of FER+'s votes for a class: check the file of the votes.")
    left_out = {
        name: {
            reason: int(((labels == code) & (dataset.splits == index)).sum())
            for code, reason in ferplus.LEFT_OUT.items()
        }
        for index, name in enumerate(SPLITS)
        if (dataset.splits == index).any()
    }
    relabelled = dataclasses.replace(
        dataset, labels=labels, classes=CLASS_SETS["ferplus"], label_map={**dataset.label_map, "names": {}}
    )
    return relabelled.select(kept), votes.counts[kept], {"rule": ferplus.MAJORITY_RULE, "left_out": left_out}


def _dataset_name(dataset: IngestedDataset) -> str:
    """Returns the name of a data set: that of its first source, without extensions."""
    return re.split(r"[.:]", dataset.sources[0].path)[0] or "faces"


def _ingest_summary(dataset: IngestedDataset, rejects: RejectedRows) -> dict[str, Any]:
    """Returns the counts of the reading, as they stand in the manifest's `audit`."""
    return {
        "rows": dataset.source_rows,
        "faces": len(dataset.labels),
        "blank_lines": dataset.blank_lines,
        "rejected": dict(sorted(rejects.counts.items())),
        "left_out": dataset.excluded,
        **{name: dataset.altered.get(name, 0) for name in image_reader.ALTERATIONS},
        "passed_over": dict(dataset.passed_over),
        "label_map": dict(dataset.label_map),
    }


@contextlib.contextmanager
def _open_inputs(options: Options, folder: str) -> Iterator[list[tuple[str, str]]]:
    """Yields path and name of each input; synthetic faces are written to a temporary file first."""
    rows = options.synthetic_rows()
    if rows is None:
        yield [(path, os.path.basename(path)) for path in options.paths()]
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=".synthetic-") as place:
        path = os.path.join(place, "synthetic.csv")
        synthetic.write_csv(path, rows, options.seed)
        yield [(path, f"synthetic:{rows}")]


def _count_assigned_splits(source_splits: np.ndarray, splits: np.ndarray) -> dict[str, int]:
    """Returns the faces per split of those for which the input names none; {} if the input names each."""
    unassigned = source_splits < 0
    if not (source_splits == NO_SPLIT).any() and (splits[unassigned] == SPLITS.index("train")).all():
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
    options: Options,
    dataset: IngestedDataset,
    statistics: dict[str, float | None],
    written: dict[str, manifest.Split],
    summary: dict[str, Any],
) -> None:
    """Writes manifest.json, which completes the output folder."""
    sources = dataset.sources
    manifest.write_manifest(
        folder,
        {
            "format_version": manifest.FORMAT_VERSION,
            "name": _dataset_name(dataset),
            "classes": list(dataset.classes),
            "image": manifest.IMAGE_FORMAT,
            "splits": {
                name: {
                    key: value
                    for key, value in dataclasses.asdict(split).items()
                    if key != "name" and value is not None
                }
                for name, split in written.items()
            },
            "statistics": statistics,
            "source": {
                "path": ",".join(source.path for source in sources),
                "sha256": _combine_sha256([source.sha256 for source in sources]),
                "rows": dataset.source_rows,
                "inputs": [dataclasses.asdict(source) for source in sources],
            },
            "audit": summary,
            "options": options.manifest_options(),
            "created_by": f"fer {fer.__version__}",
        },
    )
