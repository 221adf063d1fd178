r"""The base of the ablations: the narrow compact (0.5 M parameters), mirror images, and a short schedule.

configs/ablation.sh has the changes, docs/report.md (section 6) what came of them.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013-clean \
        --drop=conflicting,leaked
    python scripts/train.py --config=configs/ablation.py --data=tfrecords/fer2013 --workdir=runs/ablation  # the base
    bash configs/ablation.sh
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="compact_s", dropout=0.2),
        augment=Augment(policy="flip"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=2.5e-3, warmup_epochs=1.0),
        train=Train(epochs=12, global_batch=64, precision="mixed_bfloat16", ema_decay=0.998),
    )
