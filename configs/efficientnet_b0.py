"""EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946), from random weights, at 112 pixels.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/train.py --config=configs/efficientnet_b0.py --data=tfrecords/fer2013 --workdir=runs/efficientnet_b0

Hardware: a GPU.
Time and result: not trained to the end.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="efficientnet_b0", image_size=112, dropout=0.3),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)"),
        optimizer=Optimizer(name="adamw", learning_rate=1e-3, weight_decay=0.05, warmup_epochs=5.0, grad_clip_norm=1.0),
        train=Train(epochs=100, global_batch_size=256, ema_decay=0.9995),
    )
