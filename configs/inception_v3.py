"""Inception-v3 (Szegedy et al. 2016, arXiv:1512.00567), from random weights, at 139 pixels.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/train.py --config=configs/inception_v3.py --data=tfrecords/fer2013 --workdir=runs/inception_v3

Fine-tuning of weights for pixels in [0, 1] (docs/reproduce.md, source inception_v3), without the blocks that are
closest to their old task:
    ... --config.model.weights=weights/inception_v3.npz --config.model.normalization=unit
    --config.model.truncate_at=mixed8 --config.finetune.head_only_epochs=2 --config.finetune.layer_decay=0.8
    --config.optimizer.name=adamw --config.optimizer.learning_rate=5e-4 --config.optimizer.weight_decay=0.05

Hardware: a GPU.
Time and result: not trained to the end.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="inception_v3", image_size=139, dropout=0.3),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=2e-3, warmup_epochs=5.0),
        train=Train(epochs=100, global_batch_size=256, ema_decay=0.9995),
    )
