"""A summary of a conversion in lines for the user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fer.convert.readers import image_reader, label_map, unsupported_files
from fer.data.manifest import Manifest

MAX_NAMES = 24  # of a label map in one line


def summary_lines(manifest: Manifest) -> Iterator[str]:
    """Yields the lines for the manifest of a conversion."""
    audit, folder = manifest.raw["audit"], manifest.folder
    yield from _label_map_lines(audit["label_map"], manifest.raw["options"].get("classes", ""))
    for name, what in image_reader.ALTERATIONS.items():
        if audit[name]:
            yield f"{audit[name]:,} pictures {what}"
    others = audit["passed_over"]
    if others:
        kinds = unsupported_files.describe_counts(others)
        yield f"{sum(others.values()):,} files of other types were skipped: {kinds}"
    if audit["left_out"]:
        classes = manifest.raw["options"].get("classes")
        set_lacks = classes and not manifest.raw["options"]["label_map"]
        why = f"--classes={classes} leaves their labels out" if set_lacks else "--label_map maps them to none"
        yield f"{audit['left_out']:,} rows were excluded, since {why}"
    if "ferplus_labels" in audit:
        by_split = audit["ferplus_labels"]["left_out"]
        reasons = {
            reason: sum(counts[reason] for counts in by_split.values()) for reason in next(iter(by_split.values()))
        }
        counted = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in reasons.items())
        yield f"{sum(reasons.values()):,} faces were left out by the majority of FER+'s votes: {counted}"
    dropped = audit["dropped"]
    for total, what, counts in (
        (sum(audit["divided"].values()), "faces without a split in the input were assigned to", audit["divided"]),
        (sum(audit["rejected"].values()), f"bad rows were set aside in {folder}/rejects.csv", audit["rejected"]),
        (dropped["rows"], "faces were dropped from the train split", dropped["by_reason"]),
    ):
        if total:
            yield f"{total:,} {what}: {', '.join(f'{name} {count:,}' for name, count in counts.items())}"


def _label_map_lines(used: Mapping[str, Any], classes: str) -> Iterator[str]:
    """Yields a line about the label map, unless every name is that of its class; `classes` is the flag's value."""
    names = used["names"]
    if all(name == class_ for name, class_ in names.items()):
        return
    order = "FER-2013's order" if not classes else f"the order of --classes={classes}"
    order = f" in {order}" if any(map(label_map.is_number, names)) else ""
    how = f" by --label_map={used['given']}" if used["given"] else order
    shown = ", ".join(f"{name} = {class_}" for name, class_ in list(names.items())[:MAX_NAMES])
    more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
    yield f"Labels{how}: {shown}{more}"
