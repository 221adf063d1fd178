"""MobileNet, trained on faces before, fine-tuned on FER-2013 at 96 pixels.

The weights are in the order of tf.keras.applications.MobileNet(include_top=False) and see blue, green and red minus
their means; config.model.weights names the file.

Commands:
    python scripts/convert.py --input=fer2013.csv --output=tfrecords/fer2013
    python scripts/train.py --config=configs/mobilenet_face.py --data=tfrecords/fer2013 --workdir=runs/mobilenet_face

Hardware: 2 cores of an AMD Zen 5 with AVX-512 and bfloat16, no GPU: 412 images/s, 29.6 minutes with
tests running beside it.
Result: 69.5 % (95 %: 68.0 to 71.0) on PublicTest, which chose the checkpoint. See
docs/results/runs/mobilenet_face.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(
            name="mobilenet",
            image_size=96,
            weights="weights/mobilenet_face.npz",
            pixels="caffe",
            grey="sum",
            dropout=0.3,
        ),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"),
        optimizer=Optimizer(name="adamw", learning_rate=5e-4, weight_decay=0.05, warmup_epochs=1.0, clip_norm=1.0),
        train=Train(epochs=24, global_batch=128, ema_decay=0.9995),
    )
