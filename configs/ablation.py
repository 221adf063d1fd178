r"""The base of the ablations: the narrow compact (0.5 M parameters), mirror images, and a short schedule.

configs/ablation.sh has the changes, docs/report.md (section 6) what came of them.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013-clean \
        --drop=conflicting,leaked
    python scripts/train.py --config=configs/ablation.py --data=tfrecords/fer2013 --workdir=runs/ablation  # the base
    bash configs/ablation.sh

Hardware: one core of an AMD Zen 5 with AVX-512 and bfloat16 a run, two runs at a time: 4.8 minutes, and all 36
in two hours with tests running beside them.
Result: 63.4 % on PublicTest, the mean of two seeds (63.7 and 63.1), which chose the checkpoints. See
docs/results/ablations/changes/trial-0000/eval.json and trial-0016.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="compact_s", dropout=0.2),
        augment=Augment(policy="flip"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=2.5e-3, warmup_epochs=1.0),
        train=Train(epochs=12, global_batch=64, ema_decay=0.998),
    )
