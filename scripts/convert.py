"""Converts face images to TFRecord shards: python scripts/convert.py --input=fer2013.csv --output=tfrecords/fer2013."""

from absl import flags

from fer import cli, config, log_suppression
from fer.convert import worker_pool
from fer.convert.options import Options
from fer.convert.readers import label_map
from fer.data.manifest import check_manifest

INPUT = flags.DEFINE_string(
    "input", None, "CSV files, archives or class folders, comma-separated; or synthetic[:ROWS]."
)
OUTPUT = flags.DEFINE_string("output", None, "Directory for shards, manifest and audit: new or empty.")
FERPLUS = flags.DEFINE_string("ferplus", "", "File of the FER+ votes: fer2013new.csv by Microsoft.")
ON_BAD_ROW = flags.DEFINE_enum(
    "on_bad_row",
    "fail",
    config.ON_BAD_ROW,
    "Action for an invalid row: fail stops, quarantine writes it to rejects.csv.",
)
CLASSES = flags.DEFINE_string("classes", "", f"Classes, in label order: {label_map.CLASSES_VALUES}. Default: fer2013.")
LABEL_MAP = flags.DEFINE_string("label_map", "", f"Meaning of class folders or labels: {label_map.FLAG_VALUES}.")
FIT = flags.DEFINE_enum("fit", "stretch", config.FITS, "Method for making images square.")
DROP = flags.DEFINE_list("drop", [], f"Kinds of rows to remove from the train split: {', '.join(config.DROPPABLE)}.")
PREVIEW = flags.DEFINE_boolean("preview", False, "Writes class_balance.png and preview.png to --output.")
SHARDS = flags.DEFINE_integer(
    "shards", 0, "Shards per split; 0: about 100 MB each, at least 8 for train.", lower_bound=0
)
WORKERS = flags.DEFINE_integer(
    "workers", 0, "Number of parser processes and of writer threads; 0: one per CPU core.", lower_bound=0
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of synthetic faces, of --preview, and of splits that the input lacks.")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replaces an existing --output after a complete conversion.")
VERIFY = flags.DEFINE_string("verify", None, "Directory of shards to check against its manifest; nothing is converted.")
cli.require("input", "output", unless=["verify"])


def main() -> None:
    if VERIFY.value is not None:
        cli.reject_flags("is for a conversion, and --verify converts nothing. Omit one", *Options.__dataclass_fields__)
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
        classes=CLASSES.value,
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
    with worker_pool.start_early(options.workers, options.local_bytes()) as parsers:
        from fer.convert import convert, summary

        manifest = convert.convert(options, parsers)
    print(manifest.table())
    for line in summary.summary_lines(manifest):
        print(line)
    print(f"Wrote {manifest.counts()} to {manifest.folder}; audit: {manifest.folder}/audit.html")


if __name__ == "__main__":
    cli.run(main)
