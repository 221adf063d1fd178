"""Under a minute of training on synthetic faces, on two replicas: what `make demo` runs.

A small network at 24 pixels, so that an ordinary laptop without a GPU trains it in less than a minute.

Commands:
    python scripts/convert.py --input=synthetic:2500 --output=runs/demo/tfrecords
    python scripts/train.py --config=configs/demo.py --data=runs/demo/tfrecords --workdir=runs/demo/run
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="compact_s", image_size=24, dropout=0.0),
        augment=Augment(policy="flip|affine(rotate=8,shift=0.04)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.06, weight_decay=2e-3, warmup_epochs=1.0),
        train=Train(epochs=5, global_batch=32, label_smoothing=0.0, ema_decay=0.98, replicas=2),
    )
