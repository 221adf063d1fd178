"""The first pass of a conversion: parses every face once, stores its pixels and keeps a few numbers per face."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from fer.convert.audit import image_hashes
from fer.convert.audit.image_hashes import ImageHashes
from fer.convert.parser_process import Chunk
from fer.convert.readers import archives, formats
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.readers.interpretation import Interpreter, Rules
from fer.convert.readers.unsupported_files import SkippedFiles
from fer.convert.rejected_rows import RejectedRows
from fer.convert.rows import Block
from fer.convert.worker_pool import ParserPool
from fer.io.temp_store import TempStore
from fer.labels import CLASSES
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
    """Labels, splits, rows, hashes and pixels of n faces."""

    labels: np.ndarray  # int64 [n], index into `classes` or UNLABELLED
    splits: np.ndarray  # int64 [n], index into SPLITS or NO_SPLIT
    rows: np.ndarray  # int64 [n], zero-based among all rows of all sources
    hashes: ImageHashes
    store: TempStore  # the pixels of all faces that were read
    sources: tuple[Source, ...]
    blank_lines: int
    altered: Mapping[str, int] = dataclasses.field(default_factory=dict)  # pictures, by image_reader.ALTERATIONS
    excluded: int = 0  # rows that the label map excludes
    passed_over: Mapping[str, int] = dataclasses.field(default_factory=dict)  # skipped files, by extension
    # The flag's value, and the class of each name: {"given": "rafdb", "names": {"1": "surprise", "fear": "fear"}}.
    label_map: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    classes: tuple[str, ...] = CLASSES  # in label order
    places: np.ndarray | None = None  # int64 [n], ascending positions of the faces in the store; None for all of them

    @property
    def source_rows(self) -> int:
        """Number of rows of all sources, rejected ones included."""
        return sum(source.rows for source in self.sources)

    def read_faces(self, positions: np.ndarray) -> np.ndarray:
        """Returns the faces at ascending positions, int64 [n], as uint8 [n, 2304]."""
        return self.store.read_faces(positions if self.places is None else self.places[positions])

    def select(self, mask: np.ndarray) -> IngestedDataset:
        """Returns the faces of a mask, bool [n]. The counts of the sources stay those of all rows."""
        places = np.arange(len(mask)) if self.places is None else self.places
        return dataclasses.replace(
            self,
            labels=self.labels[mask],
            splits=self.splits[mask],
            rows=self.rows[mask],
            hashes=image_hashes.select(self.hashes, mask),
            places=places[mask],
        )


def ingest_sources(
    inputs: Sequence[tuple[str, str]],
    parsers: ParserPool,
    store: TempStore,
    rejects: RejectedRows,
    progress: ReadProgress,
    rules: Rules,
) -> IngestedDataset:
    """Reads every face of some sources, in their order.

    Args:
      inputs: path and name in the manifest of each source.
      parsers: threads and processes that parse.
      store: an empty store, which receives the pixels.
      rejects: receives the bad rows.
      progress: receives the bytes read and the rows.
      rules: how the sources are interpreted.

    Raises:
      UserError: a source is missing or damaged; a row is bad and `rejects` does not accept it; or labels or splits are
        ambiguous, and the user has to specify them.
    """
    reader = _SourceReader(parsers, store, rejects, progress, Interpreter(rules))
    for path, name in inputs:
        reader.read(path, name)
    return reader.result()


@dataclasses.dataclass
class _SourceReader:
    """Reads sources one after the other; the first fields are the arguments of `ingest_sources`."""

    parsers: ParserPool
    store: TempStore
    rejects: RejectedRows
    progress: ReadProgress
    interpreter: Interpreter
    blocks: list[Block] = dataclasses.field(default_factory=list)  # without their images
    hashes: list[ImageHashes] = dataclasses.field(default_factory=list)
    sources: list[Source] = dataclasses.field(default_factory=list)
    skipped: SkippedFiles = dataclasses.field(default_factory=SkippedFiles)
    rows: int = 0

    def read(self, path: str, name: str) -> None:
        """Reads a source; `name` is that in the manifest.

        Raises:
          UserError: see `ingest_sources`.
        """
        hasher, before = HashingReader(self.progress.add_bytes), self.rows
        forms: dict[str, None] = {}
        chunks = self.interpreter.interpret(formats.iter_chunks(path, hasher, self.skipped))
        limit = MAX_PENDING_PER_WORKER * self.parsers.num_workers
        for form, block, hashes in bounded_map(self.parsers.executor, self._parse, chunks, limit, formats.num_bytes):
            if form not in forms:
                forms[form] = None
                self.progress.print_line(f"Reading {form}")
            self._add(block, hashes)
        self.interpreter.check_order(name)
        self.sources.append(Source(name, archives.sha256(path, hasher), self.rows - before, "; ".join(forms)))

    def result(self) -> IngestedDataset:
        """Returns the faces of all sources read.

        Raises:
          UserError: the classes that were collected are wrong.
        """
        blocks = self.blocks
        labels = _concatenate([block.labels for block in blocks])
        classes, label_of_class = self.interpreter.classes()
        return IngestedDataset(
            labels=np.where(labels < 0, labels, label_of_class[labels]),
            splits=_concatenate([block.splits for block in blocks]),
            rows=_concatenate([block.rows for block in blocks]),
            hashes=image_hashes.concatenate(self.hashes),
            store=self.store,
            sources=tuple(self.sources),
            blank_lines=sum(block.blank for block in blocks),
            altered=sum((collections.Counter(block.altered) for block in blocks), collections.Counter()),
            excluded=sum(block.excluded for block in blocks),
            passed_over=self.skipped.counts(),
            label_map=self.interpreter.label_map(),
            classes=classes,
        )

    def _parse(self, chunk: Chunk) -> tuple[str, Block, ImageHashes]:
        """Returns the form of a chunk, its rows and the hashes of its faces. Runs in a thread."""
        return formats.describe_format(chunk), *self.parsers.parse(chunk)

    def _add(self, block: Block, hashes: ImageHashes) -> None:
        """Adds the next rows of the current source.

        Raises:
          UserError: a row is bad and may not be set aside, or the disk is full.
        """
        self.rejects.add(block.rejects)
        self.interpreter.count(block)
        self.store.append_faces(block.images)
        rows = block.rows + self.rows
        self.blocks.append(dataclasses.replace(block, images=np.empty(0), rows=rows, rejects=()))
        self.hashes.append(hashes)
        self.rows += block.count
        self.progress.add_rows(block.count)


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
