"""Options of an evaluation, and checks of paths and flags that do not need TensorFlow."""

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
from fer.run_dir import RunDir

ALL = "all"  # --precision of an export: all precisions of the format


@dataclasses.dataclass(frozen=True)
class EvalRequest:
    """Inputs and options of an evaluation."""

    workdirs: Sequence[str]  # one run, or several runs and saved predictions, whose probabilities are averaged
    data: str  # folder of shards
    split: str = "validation"
    tta: str = "none"  # one of `fer.config.TTA`
    labels: str = "fer"  # fer | ferplus
    robustness: bool = False  # also evaluates corrupted faces, which takes 50 more passes

    def check(self) -> None:
        """Checks the local paths; `fer.evaluation.evaluate.evaluate` checks those in object stores.

        Raises:
          UserError: a run or the data are missing, the data have no such split, or saved predictions are used where
            their network is needed.
        """
        self.saved_workdirs()
        for workdir in self.workdirs:
            if storage.is_remote(workdir) or not loading.holds_only_results(workdir):
                loading.check(workdir)
        if not storage.is_remote(self.data):
            manifest.read_manifest(self.data).split(self.split)

    def saved_workdirs(self) -> list[str]:
        """Returns the workdirs that hold saved predictions and no network.

        Raises:
          UserError: the evaluation needs their network.
        """
        saved = [workdir for workdir in self.workdirs if loading.holds_only_results(workdir)]
        if saved and len(self.workdirs) == 1:
            raise UserError(
                f"{saved[0]} holds saved predictions and no network. Name at least one more workdir, for an ensemble."
            )
        if saved and self.robustness:
            raise UserError(
                f"--robustness needs a network, and {saved[0]} holds only saved predictions. Name its run instead."
            )
        return saved

    def default_output(self) -> str:
        """Returns the output folder if --output is missing.

        Results on validation without test-time augmentation, with the labels of FER-2013, go into <workdir>. Other
        results go into <workdir>/eval-<split>[-<tta>][-ferplus]. Results of an export named by its file go into a
        folder beside it.

        Raises:
          UserError: the output of an ensemble or of the bundled network must be named.
        """
        if len(self.workdirs) > 1:
            raise UserError("--output is missing, and an ensemble has no default. Name a folder.")
        folder, name = loading.results_folder(self.workdirs[0]), self.name()
        return folder if name == "validation" else os.path.join(folder, f"eval-{name}")

    def check_output(self, output: str) -> None:
        """Checks that the results replace no results of another run.

        Args:
          output: their folder.

        Raises:
          UserError: it is the directory of a run other than the evaluated one; or it cannot be written to.
        """
        files.check_writable(RunDir(output).eval_file)
        is_own = (
            len(self.workdirs) == 1
            and self.workdirs[0] != loading.BUNDLED
            and os.path.realpath(self.workdirs[0]) == os.path.realpath(output)
        )
        if not is_own and RunDir(output).is_run():
            raise UserError(
                f"--output={output} is the directory of another run, whose results would be replaced. Choose another "
                "--output."
            )

    def name(self) -> str:
        """Returns the name of the evaluation: <split>[-<tta>][-ferplus]."""
        tta = [] if self.tta == "none" else [self.tta]
        labels = [] if self.labels == "fer" else [self.labels]
        return "-".join([self.split, *tta, *labels])


def export_precisions(kind: str, precision: str) -> tuple[str, ...]:
    """Returns the precisions to export.

    Args:
      kind: a key of `fer.config.FORMATS`.
      precision: one of them, or "all".

    Raises:
      UserError: the format has no such precision.
    """
    available = FORMATS[kind]
    if precision == ALL:
        return available
    if precision not in available:
        raise UserError(f"--format={kind} has no --precision={precision}: it has {', '.join(available)}.")
    return (precision,)
