"""`compact`, a network for 48x48 grey faces (1.9 M parameters, dense 3x3 convolutions), from random weights.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/train.py --config=configs/compact.py --data=tfrecords/fer2013 --workdir=runs/compact

Hardware: 2 cores of an Intel Xeon with AMX, no GPU.
Time: 43.0 minutes, 622 images/s.
Result: 68.7 % (95 % CI 67.2-70.2) on PublicTest, which selected the checkpoint; 69.4 % with flip. See
docs/results/runs/compact.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="compact", dropout=0.3),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=2.5e-3, warmup_epochs=3.0),
        train=Train(epochs=56, global_batch_size=128, ema_decay=0.999),
    )
