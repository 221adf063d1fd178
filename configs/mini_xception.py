"""mini-Xception (Arriaga et al. 2017, arXiv:1710.07557), 58 thousand parameters, a common baseline on FER-2013.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/train.py --config=configs/mini_xception.py --data=tfrecords/fer2013 --workdir=runs/mini_xception

Hardware: a CPU is enough.
Time and result: not trained to the end.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="mini_xception", dropout=0.0),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)"),
        optimizer=Optimizer(name="adamw", learning_rate=2e-3, weight_decay=0.01, warmup_epochs=3.0),
        train=Train(epochs=100, global_batch_size=128, ema_decay=0.9995),
    )
