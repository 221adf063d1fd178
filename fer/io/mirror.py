"""A local copy of a folder in a store: the work writes local files, and a thread uploads them."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator

from fer import storage
from fer.errors import RunInUseError, Stopped, StoreUnavailableError, UserError
from fer.io import files, temp_files

MIN_PAUSE_S, MAX_PAUSE_S = 1.0, 60.0  # before a failed upload is repeated; doubled each time

Stamp = tuple[int, int, int]  # inode, time of modification in ns and bytes of a file


class Mirror:
    """Uploads the files of a local folder to a folder in a store, in the background.

    `upload` records the present files; the thread uploads the newest record, and after a failure repeats the upload
    with growing pauses. Files are uploaded in the order of `rank`, and files that are gone are removed last, so that a
    reader of the store finds a whole older or a whole newer state. Each file must be replaced by renaming, or only
    grow.

    Args:
      url: folder in the store.
      folder: local folder; its parent holds the records.
      rank: position of a file, by its path relative to the folder; files of one rank are uploaded by name.
      report: called with a sentence where uploads begin to fail, and where they succeed again.
    """

    def __init__(self, url: str, folder: str, rank: Callable[[str], int], report: Callable[[str], None]):
        self.folder = folder
        self._url, self._rank, self._report = url, rank, report
        self._changed = threading.Condition()
        self._pending = ""  # folder of the newest record that is not uploaded
        self._busy = self._closing = self._abandoned = False
        self._failure: Exception | None = None  # of the last upload; None if it succeeded
        self._failed_at = 0.0  # time of the first failure since the last success
        self._numbers = 0
        self._uploaded: dict[str, Stamp] = {}  # in the store, by relative path
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)

    def download(self, wanted: Callable[[str], bool]) -> None:
        """Downloads the files of the store's folder whose relative path is `wanted`, and starts the thread."""
        for name in filter(wanted, storage.walk_files(self._url)):
            target = os.path.join(self.folder, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            storage.download(f"{self._url}/{name}", target)
            self._uploaded[name] = _stamp(target)
        self._thread.start()

    def upload(self) -> None:
        """Records the present files, to be uploaded."""
        self._numbers += 1
        record = os.path.join(os.path.dirname(self.folder), f"record-{self._numbers}")
        for name in files.list_files(self.folder):
            if ".tmp" not in name:
                target = os.path.join(record, name)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.link(os.path.join(self.folder, name), target)
        with self._changed:
            superseded, self._pending = self._pending, record
            self._changed.notify_all()
        shutil.rmtree(superseded, ignore_errors=True)

    def state(self) -> str:
        """Returns "" while uploads succeed, and "uploads fail for 32 s" while they do not."""
        return "" if self._failure is None else f"uploads fail for {time.monotonic() - self._failed_at:.0f} s"

    def close(self, timeout: float) -> None:
        """Uploads the present files and waits until they are in the store.

        Args:
          timeout: seconds.

        Raises:
          StoreUnavailableError: they are not in the store after `timeout` seconds.
        """
        self.upload()
        deadline = time.monotonic() + timeout
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while (self._pending or self._busy) and time.monotonic() < deadline:
                self._changed.wait(max(0.0, min(1.0, deadline - time.monotonic())))
            if self._pending or self._busy:
                reason = str(self._failure or "the upload has not ended").rstrip(".")
                raise StoreUnavailableError(
                    f"The last state of {self._url} could not be uploaded within {timeout:g} s ({reason}). The store "
                    "holds an earlier state: run the same command again to continue from there."
                )
        self._thread.join()

    def abandon(self) -> None:
        """Ends the uploads: after the file that is being uploaded, none follows."""
        with self._changed:
            self._abandoned = self._closing = True
            self._pending = ""
            self._changed.notify_all()

    def _run(self) -> None:
        """Uploads record after record until the mirror is closed."""
        pause = MIN_PAUSE_S
        while True:
            with self._changed:
                while not self._pending and not self._closing:
                    self._changed.wait()
                if not self._pending:
                    return
                record, self._pending, self._busy = self._pending, "", True
            try:
                self._store(record)
                failure = None
            except Exception as error:  # of any kind: training goes on, and `close` reports the last one
                failure = error
            pause = MIN_PAUSE_S if failure is None else min(2 * pause, MAX_PAUSE_S)
            self._note(failure)
            with self._changed:
                self._busy = False
                if failure is not None and not self._pending and not self._abandoned:
                    self._pending = record
                else:
                    shutil.rmtree(record, ignore_errors=True)
                self._changed.notify_all()
                if failure is not None:
                    self._wait_for(pause)

    def _wait_for(self, seconds: float) -> None:
        """Waits, with the lock released. A newer record does not end the pause, but `close` shortens it."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._closing:
                end = min(end, time.monotonic() + MIN_PAUSE_S)
            self._changed.wait(min(left, MIN_PAUSE_S))

    def _note(self, failure: Exception | None) -> None:
        """Reports the first failure, and the first success after it."""
        if failure is not None and self._failure is None:
            self._failed_at = time.monotonic()
            reason = str(failure).rstrip(".")
            self._report(f"Uploads to {self._url} fail ({reason}). The work goes on, and they are repeated.")
        elif failure is None and self._failure is not None:
            self._report(f"Uploads to {self._url} succeed again.")
        self._failure = failure

    def _store(self, record: str) -> None:
        """Uploads the files of a record that have changed, then removes those that are gone."""
        names = files.list_files(record)
        for name in sorted(names, key=lambda name: (self._rank(name), name)):
            if self._abandoned:
                return
            path = os.path.join(record, name)
            stamp = _stamp(path)
            if self._uploaded.get(name) != stamp:
                storage.upload(path, f"{self._url}/{name}")
                self._uploaded[name] = stamp
        for name in sorted(set(self._uploaded) - set(names), key=self._rank, reverse=True):
            if self._abandoned:
                return
            with contextlib.suppress(FileNotFoundError):
                storage.remove(f"{self._url}/{name}")
            del self._uploaded[name]


@contextlib.contextmanager
def open_mirror(
    url: str,
    rank: Callable[[str], int],
    wanted: Callable[[str], bool],
    timeout: float,
    report: Callable[[str], None] = print,
) -> Iterator[Mirror]:
    """Yields a local copy of a folder in a store. At the end, also after an error, its files are uploaded once more.

    After a RunInUseError nothing is uploaded any more.

    The text of an error names the store's folder in place of the local one.

    Args:
      url: folder in the store.
      rank: see `Mirror`.
      wanted: the files to download, by their paths relative to the folder.
      timeout: seconds that the last upload may take.
      report: see `Mirror`.

    Raises:
      StoreUnavailableError: the store cannot be read now, or the last state is not in it after `timeout` seconds.
      UserError: the store cannot be used.
    """
    with temp_files.folder("mirror") as place:
        folder = os.path.join(place, "files")
        os.mkdir(folder)
        mirror = Mirror(url.rstrip("/"), folder, rank, report)
        mirror.download(wanted)
        try:
            yield mirror
        except Stopped:
            mirror.close(timeout)
            raise
        except RunInUseError:  # the folder in the store belongs to another process
            mirror.abandon()
            raise
        except BaseException as error:
            with contextlib.suppress(StoreUnavailableError):
                mirror.close(timeout)
            if isinstance(error, UserError) and folder in str(error):
                raise type(error)(str(error).replace(folder, url.rstrip("/"))) from error
            raise
        mirror.close(timeout)


def _stamp(path: str) -> Stamp:
    found = os.stat(path)
    return found.st_ino, found.st_mtime_ns, found.st_size
