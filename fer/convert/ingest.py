"""The first pass of a conversion: parses every face once, stores its pixels and keeps a few numbers per face."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, TypeVar

import numpy as np

from fer.convert.audit import image_hashes
from fer.convert.audit.image_hashes import ImageHashes
from fer.convert.readers import archives, formats
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.readers.interpretation import Interpreter, Rules
from fer.convert.readers.skipped_files import SkippedFiles
from fer.convert.rejected_rows import RejectedRows
from fer.convert.rows import Block
from fer.convert.worker_pool import Chunk, ParserPool
from fer.io.temp_store import TempStore
from fer.progress import ReadProgress

MAX_PENDING_PER_WORKER = 3  # chunks submitted to the workers and not yet collected, per worker
MAX_PENDING_BYTES = 512 << 20  # of these chunks, which may hold very large pictures

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class Source:
    """One input: its base name, the SHA-256 of its bytes, its rows (without blank lines) and its form."""

    path: str
    sha256: str
    rows: int
    form: str


@dataclasses.dataclass(frozen=True)
class IngestedDataset:
    """Labels, splits, rows and hashes of n faces, whose pixels are in a temporary store in the same order."""

    labels: np.ndarray  # int64 [n], index into fer.labels.CLASSES or UNLABELLED
    splits: np.ndarray  # int64 [n], index into SPLITS or NO_SPLIT
    rows: np.ndarray  # int64 [n], zero-based among all rows of all sources
    prints: ImageHashes
    sources: tuple[Source, ...]
    blank_lines: int
    altered: Mapping[str, int] = dataclasses.field(default_factory=dict)  # pictures, by image_reader.ALTERATIONS
    excluded: int = 0  # rows that the label map excludes
    passed_over: Mapping[str, int] = dataclasses.field(default_factory=dict)  # skipped files, by extension
    # The flag's value, and the class of each name: {"given": "rafdb", "names": {"1": "surprise", "fear": "fear"}}.
    label_map: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def source_rows(self) -> int:
        """Number of rows of all sources, rejected ones included."""
        return sum(source.rows for source in self.sources)


def ingest_sources(
    paths: list[str],
    names: list[str],
    crew: ParserPool,
    pool: concurrent.futures.Executor,
    workers: int,
    store: TempStore,
    rejects: RejectedRows,
    progress: ReadProgress,
    rules: Rules,
) -> IngestedDataset:
    """Reads every face of some sources into the store, in their order.

    Args:
      paths: the sources.
      names: their names in the manifest.
      crew, pool, workers: processes and threads that parse, and their number, which does not affect the result.
      store: an empty store for the pixels.
      rejects: receives the bad rows.
      progress: receives the bytes read and the rows.
      rules: how the sources are interpreted.

    Raises:
      UserError: a source is missing or damaged; a row is bad and `rejects` does not accept it; or labels or splits are
        ambiguous, and the user has to specify them.
    """
    blocks: list[Block] = []  # without their images
    prints: list[ImageHashes] = []
    found: list[Source] = []
    passed_over, interpreter = SkippedFiles(), Interpreter(rules)
    total = 0

    def work(piece: Chunk) -> tuple[str, Block, ImageHashes]:
        return formats.describe_format(piece), *crew.parse(piece)

    for path, name in zip(paths, names):
        tally = HashingReader(progress.add_bytes)
        forms: dict[str, None] = {}
        before = total
        pieces = interpreter.interpret(formats.iter_chunks(path, tally, passed_over))
        for form, block, hashes in bounded_map(pool, work, pieces, MAX_PENDING_PER_WORKER * workers, formats.num_bytes):
            if form not in forms:
                forms[form] = None
                progress.print_line(f"Reading {form}")
            rejects.add(block.rejects)
            interpreter.count(block)
            store.append_faces(block.images)
            blocks.append(dataclasses.replace(block, images=np.empty(0), rows=block.rows + total, rejects=()))
            prints.append(hashes)
            total += block.count
            progress.add_rows(block.count)
        interpreter.check_order(name)
        found.append(Source(name, archives.sha256(path, tally), total - before, "; ".join(forms)))
    return IngestedDataset(
        labels=_concatenate([block.labels for block in blocks]),
        splits=_concatenate([block.splits for block in blocks]),
        rows=_concatenate([block.rows for block in blocks]),
        prints=image_hashes.concatenate(prints),
        sources=tuple(found),
        blank_lines=sum(block.blank for block in blocks),
        altered=sum((collections.Counter(block.altered) for block in blocks), collections.Counter()),
        excluded=sum(block.excluded for block in blocks),
        passed_over=passed_over.counts(),
        label_map=interpreter.label_map(),
    )


def _concatenate(parts: list[np.ndarray]) -> np.ndarray:
    """Returns the columns of several blocks as one, int64 [n]; n is 0 without a block (a table of a header alone)."""
    return np.concatenate([np.empty(0, np.int64), *parts])


def bounded_map(
    pool: concurrent.futures.Executor,
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    ahead: int,
    size: Callable[[_Item], int] = lambda _: 0,
) -> Iterator[_Result]:
    """Maps over an executor, in order, and limits the number and size of submitted items.

    Args:
      pool: computes `work(item)`.
      work: the function.
      items: its arguments, consumed as needed.
      ahead: maximum number of submitted items.
      size: returns the bytes of an item. No item is submitted while the pending ones exceed `MAX_PENDING_BYTES`.
    """
    waiting: collections.deque[tuple[concurrent.futures.Future, int]] = collections.deque()
    pending_bytes = 0
    try:
        for item in items:
            waiting.append((pool.submit(work, item), size(item)))
            pending_bytes += waiting[-1][1]
            del item
            while waiting and (len(waiting) >= ahead or pending_bytes > MAX_PENDING_BYTES):
                future, freed = waiting.popleft()
                pending_bytes -= freed
                yield future.result()
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        for future, _ in waiting:
            future.cancel()
