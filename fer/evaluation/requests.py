"""What an evaluation is asked to do, and what can be said of paths and flags before TensorFlow is loaded."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from fer import storage
from fer.config import FORMATS
from fer.data import manifest
from fer.errors import UserError
from fer.io import files
from fer.models import loading

STANDARD_INPUT = "-"
ALL = "all"  # the --precision of an export that means every one


@dataclasses.dataclass(frozen=True)
class EvalRequest:
    """What is to be evaluated, and how."""

    workdirs: Sequence[str]  # one run, or several runs and results of runs, whose probabilities are averaged
    data: str  # folder of shards
    split: str = "validation"
    tta: str = "none"  # one of `fer.config.TTA`
    labels: str = "fer"  # fer | ferplus
    corruptions: bool = False  # scores the faces made worse too: 40 passes over them

    def check(self) -> None:
        """Checks the local paths. What is in a store is left to `fer.evaluation.evaluate.evaluate`.

        Raises:
          UserError: a run or the data are missing, the data have no such split, or results of a run are asked for what
            only its network can do.
        """
        self.known()
        for workdir in self.workdirs:
            if storage.is_remote(workdir) or not loading.is_kept(workdir):
                loading.check(workdir)
        if not storage.is_remote(self.data):
            manifest.read_manifest(self.data).split(self.split)

    def known(self) -> list[str]:
        """Returns the workdirs that hold results of an earlier evaluation and no network.

        Raises:
          UserError: they are asked for what only a network can do.
        """
        known = [workdir for workdir in self.workdirs if loading.is_kept(workdir)]
        if known and len(self.workdirs) == 1:
            raise UserError(
                f"{known[0]} holds results of a run, not the run: they can be members of an ensemble alone."
            )
        if known and self.corruptions:
            raise UserError(f"--corruptions needs the network itself, and {known[0]} holds results of one alone.")
        return known

    def default_output(self) -> str:
        """Where the results go if nothing else is said.

        The plain evaluation on validation belongs to the run itself: <workdir>. Every other one gets
        <workdir>/eval-<split>[-<tta>][-ferplus]. An export that is named by its file has a folder of its own.

        Raises:
          UserError: an ensemble belongs to no single run, and the bundled network to the package, so their output must
            be named.
        """
        if len(self.workdirs) > 1:
            raise UserError(
                "--output is missing: the results of an ensemble belong to none of its runs; name a folder."
            )
        tta = [] if self.tta == "none" else [self.tta]
        labels = [] if self.labels == "fer" else [self.labels]
        folder = loading.results_folder(self.workdirs[0])
        if self.split == "validation" and not tta and not labels:
            return folder
        return os.path.join(folder, "-".join(["eval", self.split, *tta, *labels]))


def check_input(path: str) -> None:
    """Checks that what is to be predicted is there.

    Raises:
      UserError: it is not, or is a pipe or a device.
    """
    if path != STANDARD_INPUT and not files.exists(path):
        raise UserError(
            f"There is no {path}; --input names a table of pixels, a picture, or a folder or archive of them."
        )
    if path != STANDARD_INPUT:
        files.check_regular(path)


def export_precisions(kind: str, precision: str) -> tuple[str, ...]:
    """Returns the precisions that an export is written in.

    Args:
      kind: a key of `fer.config.FORMATS`.
      precision: one of them, or "all".

    Raises:
      UserError: the format has no such precision.
    """
    known = FORMATS[kind]
    if precision == ALL:
        return known
    if precision not in known:
        raise UserError(f"--format={kind} has no --precision={precision}: it has {', '.join(known)}.")
    return (precision,)
