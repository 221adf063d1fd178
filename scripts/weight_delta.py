"""Keeps a run as its difference from published weights: python scripts/weight_delta.py --workdir=A --base=B --output=C.

--base is a weights file of scripts/import_weights.py that the run was fine-tuned from, possibly over several runs. With
--delta=C instead of --workdir, the program restores the run from the same weights. The delta has half the size of the
weights and is of no use without --base, so it can be kept where the weights may not be redistributed.
"""

from absl import flags

from fer import cli, log_suppression
from fer.errors import UserError
from fer.io import files
from fer.models import loading
from fer.run_dir import RunDir

WORKDIR = flags.DEFINE_string("workdir", None, "Run directory to make a delta of.")
DELTA = flags.DEFINE_string("delta", None, "Folder of a delta to restore the run of.")
BASE = flags.DEFINE_string("base", None, "The published weights: a file as for --config.model.weights.")
OUTPUT = flags.DEFINE_string("output", None, "Folder of the delta; with --delta, the new run directory.")
cli.require("base", "output")


def main() -> None:
    if bool(WORKDIR.value) == bool(DELTA.value):
        raise UserError("Give either --workdir, to make a delta, or --delta, to restore its run.")
    if WORKDIR.value:
        loading.check(WORKDIR.value)
    if not files.exists(BASE.value):
        raise UserError(f"There is no weights file {BASE.value}: see --base.")
    if DELTA.value:
        RunDir(OUTPUT.value).check_new()
        RunDir(DELTA.value).read_delta_record()
    log_suppression.import_tensorflow()
    from fer.export import weight_delta

    if WORKDIR.value:
        paths = weight_delta.make_delta(WORKDIR.value, BASE.value, OUTPUT.value)
    else:
        paths = weight_delta.apply_delta(DELTA.value, BASE.value, OUTPUT.value)
    for path in paths:
        print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
