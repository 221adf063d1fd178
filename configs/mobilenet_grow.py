"""MobileNet, trained on faces before, fine-tuned on FER-2013 at sizes that grow: 96, 128 and 160 pixels.

Most steps are taken where they are cheap, at a rate that stays; the last ones at the size that tells most, at a rate
that falls to zero. Half of each target is the label, half what FER+'s votes say of it, so the shards need votes.

Commands (best-NUMBER.npz is the file that best.json names):
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/train.py --config=configs/mobilenet_grow.py --data=tfrecords/fer2013 --workdir=runs/grow_96 \
      --config.model.weights=weights/mobilenet_face.npz --config.model.image_size=96 \
      --config.optimizer.schedule=constant
    python scripts/train.py --config=configs/mobilenet_grow.py --data=tfrecords/fer2013 --workdir=runs/grow_128 \
      --config.model.weights=runs/grow_96/checkpoints/best-00002240.npz --config.model.image_size=128 \
      --config.optimizer.schedule=constant --config.seed=1
    python scripts/train.py --config=configs/mobilenet_grow.py --data=tfrecords/fer2013 --workdir=runs/grow_160 \
      --config.model.weights=runs/grow_128/checkpoints/best-00002240.npz --config.seed=2

And 20 epochs more from there, mixup in the first twelve:
    python scripts/train.py --config=configs/mobilenet_grow.py --data=tfrecords/fer2013 --workdir=runs/grow_again \
      --config.model.weights=runs/grow_160/checkpoints/best-00002240.npz --config.seed=3 --config.train.epochs=20 \
      --config.augment.mixing_off_epochs=8 \
      "--config.augment.policy=flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)|mixup(alpha=0.2)"

And 11 sharpness-aware epochs from there, each of which takes twice the time:
    python scripts/train.py --config=configs/mobilenet_grow.py --data=tfrecords/fer2013 --workdir=runs/grow_sam \
      --config.model.weights=runs/grow_again/checkpoints/best-00004480.npz --config.seed=4 --config.train.epochs=11 \
      --config.optimizer.sam_rho=0.1

Hardware: 2 cores of an AMD Zen 4 with AVX-512 and bfloat16, no GPU: about 250, 140 and 100 images/s, 116.3 minutes in
all, for two thirds of which tests ran beside it; the 20 epochs took 118.8 more, tests beside a third of them,
and the 11 took 110.7 (50 images/s), tests beside the first seven minutes.
Result: 71.7 % (95 %: 70.3 to 73.2) on PublicTest, which chose the checkpoint. See
docs/results/runs/mobilenet_grow. After the 20 epochs 71.9 % (70.4 to 73.4),
docs/results/runs/mobilenet_grow_again; after the 11, 72.2 % (70.7 to 73.7),
docs/results/runs/mobilenet_grow_sam.
"""

from fer.config import Augment, Experiment, FineTune, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(
            name="mobilenet",
            image_size=160,
            weights="runs/grow_128/checkpoints/best-00002240.npz",
            pixels="caffe",
            grey="sum",
            dropout=0.3,
        ),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"),
        optimizer=Optimizer(name="adamw", learning_rate=5e-4, weight_decay=0.05, warmup_epochs=0.5, clip_norm=1.0),
        finetune=FineTune(layer_decay=0.96),
        train=Train(
            epochs=10,
            global_batch=128,
            targets="posterior",
            label_smoothing=0.05,
            ema_decay=0.999,
        ),
    )
