"""Limits on the size of decompressed data, so that decompression bombs raise an error instead of filling memory."""

from __future__ import annotations

MIN_LIMIT_BYTES = 64 << 20  # bytes that any file may unpack to
MAX_RATIO = (
    100  # times its own size that a larger one may unpack to; FER-2013's CSV has 4, zeros in one layer have 1,000
)
ADVICE = "if the file is valid, unpack it and name the folder"


class LimitError(Exception):
    """Data exceeds a limit. The text follows the name of the file in a message, and says what to do."""


class Budget:
    """Counts the bytes that a file unpacks to, over all layers and members."""

    def __init__(self, packed: int):
        """Sets the limit.

        Args:
          packed: size of the compressed file, in bytes.
        """
        self._most = max(MIN_LIMIT_BYTES, MAX_RATIO * packed)
        self._packed, self._unpacked = packed, 0

    def take(self, count: int) -> None:
        """Counts `count` decompressed bytes.

        Raises:
          LimitError: the sum exceeds the limit.
        """
        self._unpacked += count
        if self._unpacked > self._most:
            raise LimitError(
                f"has {self._packed:,} bytes and unpacks to more than {self._most:,}, as decompression bombs do: "
                f"{ADVICE}."
            )
