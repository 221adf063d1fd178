"""ResNet18 (He et al. 2015, arXiv:1512.03385), from random weights, at 96 pixels.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/train.py --config=configs/resnet18.py --data=tfrecords/fer2013 --workdir=runs/resnet18

Hardware: a GPU.
Time and result: not trained to the end.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="resnet18", image_size=96, stem_channels="sum", dropout=0.3),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=2e-3, warmup_epochs=5.0),
        train=Train(epochs=100, global_batch_size=256, ema_decay=0.9995),
    )
