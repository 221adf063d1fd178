r"""MobileNet, pretrained on faces, fine-tuned at 96 pixels.

The weights are for BGR minus the ImageNet means; docs/reproduce.md has the package of faceres-deep.json.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/import_weights.py --source=faceres --input=faceres-deep.json --data=tfrecords/fer2013 \
      --output=weights/mobilenet_face.npz
    python scripts/train.py --config=configs/mobilenet_face.py --data=tfrecords/fer2013 --workdir=runs/mobilenet_face

Hardware: 2 cores of an AMD Zen 5 (AVX512_BF16), no GPU; other tests used the machine.
Time: 29.6 minutes, 412 images/s.
Result: 69.5 % (95 % CI 68.0-71.0) on PublicTest, which selected the checkpoint. See
docs/results/runs/mobilenet_face.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(
            name="mobilenet",
            image_size=96,
            weights="weights/mobilenet_face.npz",
            normalization="caffe",
            stem_channels="sum",
            dropout=0.3,
        ),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"),
        optimizer=Optimizer(name="adamw", learning_rate=5e-4, weight_decay=0.05, warmup_epochs=1.0, grad_clip_norm=1.0),
        train=Train(epochs=24, global_batch_size=128, ema_decay=0.9995),
    )
