"""A few minutes on synthetic faces, on two replicas: what `make demo` runs.

Commands:
    python scripts/convert.py --input=synthetic:4000 --output=runs/demo/tfrecords
    python scripts/train.py --config=configs/demo.py --data=runs/demo/tfrecords --workdir=runs/demo/run
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="compact", dropout=0.1),
        augment=Augment(policy="flip|affine(rotate=10,scale=0.1,shift=0.05)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.05, weight_decay=2e-3, warmup_epochs=1.0),
        train=Train(epochs=8, global_batch=64, ema_decay=0.98, replicas=2),
    )
