"""Finds faces whose photograph is also in the train split: python scripts/photo_overlap.py --data=tfrecords/fer2013.

Faces cut from one photograph share its scene and often its label, although their pixels differ. The program writes
photo_overlap.json beside the manifest. Evaluations then also report the accuracy without these faces.
"""

import os

from absl import flags

from fer import cli, log_suppression
from fer.data import manifest
from fer.io import files
from fer.progress import ImageProgress

DATA = flags.DEFINE_string("data", None, "Directory of shards that scripts/convert.py wrote.")
cli.require("data")


def main() -> None:
    manifest.check_manifest(DATA.value)
    path = os.path.join(DATA.value, manifest.PHOTO_OVERLAP_FILE)
    files.check_writable(path)
    log_suppression.import_tensorflow()
    from fer.convert.audit.photo_overlap import find_photo_overlap

    with ImageProgress("comparing") as progress:
        overlaps = find_photo_overlap(DATA.value, progress.update)
    for name, overlap in overlaps.items():
        count, share = len(overlap.rows), 100 * len(overlap.rows) / max(overlap.examples, 1)
        print(f"{name}: {count:,} of {overlap.examples:,} faces ({share:.1f} %) share a photograph with a train face")
    print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
