r"""EfficientNet-Lite0, fine-tuned from ImageNet weights at 96 pixels.

docs/reproduce.md has the package of the weights; config.model.weights=none trains from random weights.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/import_weights.py --source=efficientnet_lite0 --input=efficientnet-lite0-57934424.pth \
      --output=weights/efficientnet_lite0.npz
    python scripts/train.py --config=configs/efficientnet_lite0.py --data=tfrecords/fer2013 --workdir=runs/lite0

Hardware: a GPU.
Time and result: not trained to the end.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(
            name="efficientnet_lite0",
            image_size=96,
            weights="weights/efficientnet_lite0.npz",
            stem_channels="sum",
            dropout=0.2,
        ),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.1,shift=0.08,shear=0.1)"),
        optimizer=Optimizer(name="adamw", learning_rate=5e-4, weight_decay=0.05, warmup_epochs=1.0, grad_clip_norm=1.0),
        train=Train(epochs=20, global_batch_size=128, ema_decay=0.9995),
    )
