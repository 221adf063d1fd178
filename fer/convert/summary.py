"""A summary of a conversion in lines for the user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fer.convert.readers import image_reader, label_map, unsupported_files

MAX_NAMES = 24  # of a label map in one line


def summary_lines(audit: Mapping[str, Any], folder: str) -> Iterator[str]:
    """Yields the lines.

    Args:
      audit: of the manifest.
      folder: of the conversion.
    """
    yield from _label_map_lines(audit["label_map"])
    for name, what in image_reader.ALTERATIONS.items():
        if audit[name]:
            yield f"{audit[name]:,} pictures {what}"
    others = audit["passed_over"]
    if others:
        kinds = unsupported_files.describe_counts(others)
        yield f"{sum(others.values()):,} files of other types were skipped: {kinds}"
    if audit["left_out"]:
        yield f"{audit['left_out']:,} rows were excluded, since --label_map maps them to none"
    dropped = audit["dropped"]
    for total, what, counts in (
        (sum(audit["divided"].values()), "faces without a split in the input were assigned to", audit["divided"]),
        (sum(audit["rejected"].values()), f"bad rows were set aside in {folder}/rejects.csv", audit["rejected"]),
        (dropped["rows"], "faces were dropped from the train split", dropped["by_reason"]),
    ):
        if total:
            yield f"{total:,} {what}: {', '.join(f'{name} {count:,}' for name, count in counts.items())}"


def _label_map_lines(used: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line about the label map, unless every name is that of its class."""
    names = used["names"]
    if all(name == class_ for name, class_ in names.items()):
        return
    order = " in FER-2013's order" if any(map(label_map.is_number, names)) else ""
    how = f" by --label_map={used['given']}" if used["given"] else order
    shown = ", ".join(f"{name} = {class_}" for name, class_ in list(names.items())[:MAX_NAMES])
    more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
    yield f"Labels{how}: {shown}{more}"
