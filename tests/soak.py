"""Soak test: converts, trains, kills, resumes and evaluates repeatedly: python -m tests.soak --minutes=30.

Each round converts faces, trains on them in this process, trains the same in a child process that is killed at random
moments and restarted until it ends, and evaluates. Nothing may be lost: every round ends with the weights and the
figures of the first. Nothing may leak: memory, open files and threads of this process do not grow after the warm-up.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import random
import shutil
import time

import numpy as np
from absl import flags

from fer import cli
from fer.convert import convert, verify
from fer.errors import UserError
from fer.evaluation import evaluate
from fer.evaluation.eval_options import EvalRequest
from fer.io import files
from fer.train import checkpoints, trainer
from tests.train import factories
from tests.train.factories import start_training

MINUTES = flags.DEFINE_float("minutes", 30.0, "Minimum duration in minutes; the current round is finished.")
OUTPUT = flags.DEFINE_string("output", "runs/soak", "Folder of the rounds and of soak.json; its rounds are replaced.")
SEED = flags.DEFINE_integer("seed", 0, "Seed of the random moments at which runs are killed.")

WARM_UP = 3  # rounds until everything that is loaded, compiled or cached once exists
KILLS = 2  # kills of the run in each round
MAX_GROWTH_MIB = 4.0  # largest growth of memory per round, by a linear fit over the rounds after the warm-up
STEPS = 60


@dataclasses.dataclass(frozen=True)
class Round:
    """Results of a round. The last three fields are measured in this process at the end of the round."""

    seconds: float
    kept: list[int]  # step of the newest checkpoint at each kill
    weights: str  # SHA-256 of the best weights
    killed_weights: str  # the same for the run that was killed
    accuracy: float
    memory_mib: float
    open_files: int
    threads: int


def run_round(folder: str, moments: random.Random) -> Round:
    """Runs a round in `folder`, which is replaced."""
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    data, plain, killed = (os.path.join(folder, name) for name in ("shards", "run", "killed"))
    convert.convert(convert.Options(input="synthetic:400", output=data))
    settings = factories.experiment(max_steps=STEPS, save_every_steps=5)
    settings.model.name = "compact_s"
    trainer.train(settings, data, plain, "one")
    kept = [kill_run(settings, data, killed, moments) for _ in range(KILLS)]
    process = start_training(settings, data, killed)
    output = process.communicate()[0].decode()
    if process.returncode:
        raise UserError(f"The run in {killed} does not resume after kills at the steps {kept}: {output}")
    verify.verify(data)
    evaluations = [evaluate.evaluate(EvalRequest([run], data)) for run in (plain, killed)]
    evaluate.write(evaluations[1], os.path.join(killed, "eval"))
    gc.collect()
    return Round(
        seconds=round(time.monotonic() - started, 1),
        kept=kept,
        weights=files.sha256(best_file(plain)),
        killed_weights=files.sha256(best_file(killed)),
        accuracy=evaluations[1].content["accuracy"],
        memory_mib=round(resident_mib(), 1),
        open_files=len(os.listdir("/proc/self/fd")),
        threads=len(os.listdir("/proc/self/task")),
    )


def kill_run(settings, data: str, workdir: str, moments: random.Random) -> int:
    """Starts or resumes the run in `workdir` and kills it within a second after its next checkpoint.

    Returns:
      The step of the newest complete checkpoint.
    """
    folder = os.path.join(workdir, "checkpoints")
    before = max(checkpoints.list_steps(folder), default=0)
    process = start_training(settings, data, workdir)
    while max(checkpoints.list_steps(folder), default=0) == before and process.poll() is None:
        time.sleep(0.01)
    time.sleep(moments.uniform(0, 1))
    process.kill()
    process.communicate()
    return max(checkpoints.list_steps(folder), default=0)


def best_file(workdir: str) -> str:
    return os.path.join(workdir, files.read_json(os.path.join(workdir, "best.json"), "the best weights")["file"])


def resident_mib() -> float:
    """Returns the resident memory of this process in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def find_faults(rounds: list[Round]) -> list[str]:
    """Returns a sentence for each loss and each leak."""
    found = []
    expected = rounds[0].weights
    for number, each in enumerate(rounds, 1):
        if each.weights != expected or each.killed_weights != expected or each.accuracy != rounds[0].accuracy:
            found.append(f"Round {number} differs from round 1: {each}.")
    warm = rounds[WARM_UP:]
    if len(warm) < 3:
        return [*found, f"{len(rounds)} rounds are too few to detect leaks: increase --minutes."]
    growth = float(np.polyfit(range(len(warm)), [each.memory_mib for each in warm], 1)[0])
    if growth > MAX_GROWTH_MIB:
        found.append(f"Memory grows by {growth:.1f} MiB a round, from {warm[0].memory_mib} to {warm[-1].memory_mib}.")
    for name in ("open_files", "threads"):
        first, last = getattr(warm[0], name), getattr(warm[-1], name)
        if last > first:
            found.append(
                f"There were {first} {name.replace('_', ' ')} after round {WARM_UP + 1}, and {last} at the end."
            )
    return found


def main() -> None:
    """Runs rounds for --minutes, writes soak.json and fails if anything was lost or leaked."""
    moments, rounds = random.Random(SEED.value), []
    ending = time.monotonic() + 60 * MINUTES.value
    while time.monotonic() < ending:
        rounds.append(run_round(os.path.join(OUTPUT.value, "round"), moments))
        print(f"round {len(rounds)}: {dataclasses.asdict(rounds[-1])}", flush=True)
    found = find_faults(rounds)
    record = {"rounds": [dataclasses.asdict(each) for each in rounds], "faults": found}
    path = os.path.join(OUTPUT.value, "soak.json")
    files.write_json(path, record)
    print(f"wrote {path}")
    if found:
        raise UserError(" ".join(found))
    print(f"{len(rounds)} rounds, {KILLS * len(rounds)} kills: nothing was lost and nothing leaked.")


if __name__ == "__main__":
    cli.run(main)
