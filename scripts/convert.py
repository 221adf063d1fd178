"""Converts faces to verified shards: python scripts/convert.py --input=fer2013.csv --output=tfrecords/fer2013."""

from absl import flags

from fer import cli, config, log_suppression
from fer.convert.options import Options
from fer.convert.readers import label_map
from fer.data.manifest import check_manifest
from fer.errors import UserError

INPUT = flags.DEFINE_string("input", None, "CSVs, archives or class folders, comma-separated; or synthetic[:ROWS].")
OUTPUT = flags.DEFINE_string("output", None, "Folder for the shards, their manifest and the audit; it must not exist.")
FERPLUS = flags.DEFINE_string("ferplus", "", "FER+ votes: Microsoft's fer2013new.csv.")
ON_BAD_ROW = flags.DEFINE_enum(
    "on_bad_row", "fail", config.ON_BAD_ROW, "What a bad row does: stop, or go to rejects.csv."
)
LABEL_MAP = flags.DEFINE_string(
    "label_map", "", f"What numbered or other class folders, or labels of a table, mean: {label_map.FLAG_VALUES}."
)
FIT = flags.DEFINE_enum("fit", "stretch", config.FITS, "How pictures that are not square become so.")
DROP = flags.DEFINE_list("drop", [], f"Leaves rows out of the train split: {', '.join(config.DROPPABLE)}.")
PREVIEW = flags.DEFINE_boolean("preview", False, "Draws class_balance.png and preview.png into --output.")
SHARDS = flags.DEFINE_integer("shards", 0, "Of each split; 0: about 100 MB each, of train 8 or more.", lower_bound=0)
WORKERS = flags.DEFINE_integer(
    "workers", 0, "Processes that parse, threads that write; 0: one a processor.", lower_bound=0
)
SEED = flags.DEFINE_integer("seed", 0, "Of synthetic faces, of --preview, and of splits that the input lacks.")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replaces an --output that exists, once the new one is whole.")
VERIFY = flags.DEFINE_string("verify", None, "Only checks this folder of shards against its manifest.")
cli.require("input", "output", unless=["verify"])


def main() -> None:
    if VERIFY.value is not None:
        if INPUT.value or OUTPUT.value:
            raise UserError("--verify=DIR stands alone: it converts nothing.")
        check_manifest(VERIFY.value)
        log_suppression.import_tensorflow()
        from fer.convert.verify import verify

        manifest = verify(VERIFY.value)
        print(manifest.table())
        print(f"{VERIFY.value} agrees with its manifest: {manifest.counts()}.")
        return
    options = Options(
        input=INPUT.value,
        output=OUTPUT.value,
        ferplus=FERPLUS.value,
        on_bad_row=ON_BAD_ROW.value,
        label_map=LABEL_MAP.value,
        fit=FIT.value,
        drop=tuple(DROP.value),
        preview=PREVIEW.value,
        shards=SHARDS.value,
        workers=WORKERS.value,
        seed=SEED.value,
        overwrite=OVERWRITE.value,
    )
    options.check()
    log_suppression.import_tensorflow()
    from fer.convert import convert, summary

    manifest = convert.convert(options)
    print(manifest.table())
    for line in summary.summary_lines(manifest.raw["audit"], manifest.folder):
        print(line)
    print(f"Wrote {manifest.counts()} to {manifest.folder}; what was found is in {manifest.folder}/audit.html")


if __name__ == "__main__":
    cli.run(main)
