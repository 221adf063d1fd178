r"""The base of the ablations: `compact_s` (0.5 M parameters), horizontal flips, a short schedule.

configs/ablation.sh trains each change against this config; docs/report.md has the results.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013-clean \
        --drop=conflicting,leaked
    python scripts/train.py --config=configs/ablation.py --data=tfrecords/fer2013 --workdir=runs/ablation  # the base
    bash configs/ablation.sh

Hardware: one core per run of an AMD Zen 5 (AVX512_BF16), two runs at a time.
Time: 4.8 minutes per run; all 36 runs in two hours, while other tests used the machine.
Result: 63.4 % on PublicTest, which selected the checkpoints: the mean of two seeds (63.7 and 63.1 %). See
docs/results/ablations/changes/trial-0000 and docs/results/ablations/changes/trial-0016.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="compact_s", dropout=0.2),
        augment=Augment(policy="flip"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=2.5e-3, warmup_epochs=1.0),
        train=Train(epochs=12, global_batch_size=64, ema_decay=0.998),
    )
