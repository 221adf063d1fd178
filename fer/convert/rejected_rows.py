"""Handling of bad rows: the first one stops a conversion, or all are written to rejects.csv and counted."""

from __future__ import annotations

import collections
import csv
import io
import os
from collections.abc import Sequence
from typing import BinaryIO

from fer import escaping
from fer.convert.rows import Reject
from fer.errors import UserError

REJECTS_FILE = "rejects.csv"
HEADER = b"file,line,column,reason,original\n"


class RejectedRows:
    """Collects the rejected rows of a conversion in their order.

    With a folder, they are written to `rejects.csv`, which is created by the first one. Its columns: the file, the line
    in it (0 for a picture), the column, the reason, and the original row, byte for byte within CSV quotes. Text that a
    spreadsheet could interpret as a formula is prefixed with a quote ': see `fer.escaping.escape_cell`.
    """

    def __init__(self, folder: str | None):
        """Prepares for rejects.

        Args:
          folder: of rejects.csv, or None to raise an error for the first reject.
        """
        self._folder = folder
        self._file: BinaryIO | None = None
        self.counts: collections.Counter[str] = collections.Counter()  # by kind

    def add(self, rejects: Sequence[Reject]) -> None:
        """Writes and counts rejects.

        Raises:
          UserError: there is no folder for them.
        """
        for reject in rejects:
            if self._folder is None:
                raise UserError(f"{reject}. Correct the row, or set bad rows aside with --on_bad_row=quarantine.")
            if self._file is None:
                self._file = open(  # noqa: SIM115  closed by `close`
                    os.path.join(self._folder, REJECTS_FILE), "wb"
                )
                self._file.write(HEADER)
            self._file.write(_format_row(reject))
            self.counts[reject.kind] += 1

    def close(self) -> None:
        """Closes the file, if there is one."""
        if self._file is not None:
            self._file.close()


def _format_row(reject: Reject) -> bytes:
    """Returns a reject as a line of rejects.csv."""
    text = io.StringIO()
    file, column, reason = map(escaping.escape_cell, (reject.file, reject.column, reject.reason))
    csv.writer(text, lineterminator="\n").writerow([file, reject.line, column, reason])
    quote = b"'" if escaping.is_risky(reject.original.decode("utf-8", "replace")) else b""
    original = b'"' + quote + reject.original.replace(b'"', b'""') + b'"' if reject.original else b""
    return text.getvalue().removesuffix("\n").encode("utf-8", "surrogateescape") + b"," + original + b"\n"
