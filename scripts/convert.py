"""Converts faces to verified shards: python scripts/convert.py --input=fer2013.csv --output=tfrecords/fer2013."""

from absl import flags

from fer import cli  # first of ours: sets the log level before TensorFlow loads
from fer.data import audit, convert
from fer.data.verify import verify
from fer.errors import UserError

INPUT = flags.DEFINE_string("input", None, "CSVs, archives or class folders, comma-separated, or synthetic[:ROWS].")
OUTPUT = flags.DEFINE_string("output", None, "Folder for the shards and their manifest.")
FERPLUS = flags.DEFINE_string("ferplus", "", "FER+ votes: Microsoft's fer2013new.csv.")
ON_BAD_ROW = flags.DEFINE_enum("on_bad_row", "fail", convert.ON_BAD_ROW, "Stop, or keep bad rows in rejects.csv.")
DROP = flags.DEFINE_list("drop", [], f"Leaves rows out of the train split: {', '.join(audit.DROPPABLE)}.")
PREVIEW = flags.DEFINE_boolean("preview", False, "Draws class_balance.png and preview.png into --output.")
SHARDS = flags.DEFINE_integer("shards", 0, "Shards of each split; 0 makes them about 100 MB each.", lower_bound=0)
WORKERS = flags.DEFINE_integer("workers", 0, "Threads; 0 takes one a processor.", lower_bound=0)
SEED = flags.DEFINE_integer("seed", 0, "Of synthetic faces, and of the split where the input has none.")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replaces --output once the new one is whole.")
VERIFY = flags.DEFINE_string("verify", None, "Converts nothing: checks this folder of shards against its manifest.")


def main() -> None:
    if VERIFY.value is not None:
        if INPUT.value or OUTPUT.value:
            raise UserError("--verify=DIR stands alone: it converts nothing.")
        manifest = verify(VERIFY.value)
        print(manifest.table())
        print(f"{VERIFY.value} agrees with its manifest: {_size(manifest)}.")
        return
    if not INPUT.value or not OUTPUT.value:
        raise UserError("--input and --output are needed: what to convert, and the folder for the shards.")
    manifest = convert.convert(
        convert.Options(
            input=INPUT.value,
            output=OUTPUT.value,
            ferplus=FERPLUS.value,
            on_bad_row=ON_BAD_ROW.value,
            drop=tuple(DROP.value),
            preview=PREVIEW.value,
            shards=SHARDS.value,
            workers=WORKERS.value,
            seed=SEED.value,
            overwrite=OVERWRITE.value,
        )
    )
    print(manifest.table())
    _tell(manifest.raw["audit"], manifest.folder)
    print(f"Wrote {_size(manifest)} to {manifest.folder}; what was found is in {manifest.folder}/audit.html")


def _tell(found: dict, folder: str) -> None:
    if found["divided"]:
        parts = ", ".join(f"{name} {count:,}" for name, count in found["divided"].items())
        print(f"The input names no split for {sum(found['divided'].values()):,} faces; they went to {parts}")
    for key, what in (("resized", "were not 48x48"), ("recoloured", "were not grey")):
        if found[key]:
            print(f"{found[key]:,} pictures {what} and were converted")
    if found["rejected"]:
        print(f"Set aside {sum(found['rejected'].values()):,} bad rows in {folder}/rejects.csv")
    if found["dropped"]["rows"]:
        print(f"Dropped {found['dropped']['rows']:,} faces from the train split")


def _size(manifest) -> str:
    splits = manifest.splits.values()
    faces, shards = sum(split.examples for split in splits), sum(len(split.shards) for split in splits)
    return f"{faces:,} faces in {shards} shard{'s' * (shards != 1)}"


if __name__ == "__main__":
    cli.run(main)
