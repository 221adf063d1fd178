r"""MobileNet, pretrained on faces, fine-tuned at growing sizes: 96, 128 and 160 pixels.

Most steps run at small, cheap sizes with a constant learning rate; the last ones at 160 pixels with a cosine schedule.
The targets are posterior targets, so the shards need FER+ votes.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/import_weights.py --source=faceres --input=faceres-deep.json --data=tfrecords/fer2013 \
      --output=weights/mobilenet_face.npz
    python scripts/train.py --config=configs/mobilenet_grow.py --data=tfrecords/fer2013 --workdir=runs/grow_96 \
      --config.model.image_size=96 --config.optimizer.schedule=constant
    python scripts/train.py --config=configs/mobilenet_grow.py --data=tfrecords/fer2013 --workdir=runs/grow_128 \
      --init_from=runs/grow_96 --config.model.image_size=128 \
      --config.optimizer.schedule=constant --config.seed=1
    python scripts/train.py --config=configs/mobilenet_grow.py --data=tfrecords/fer2013 --workdir=runs/grow_160 \
      --init_from=runs/grow_128 --config.seed=2

mobilenet_grow_again: 20 more epochs, mixup in the first twelve:
    python scripts/train.py --config=configs/mobilenet_grow.py --data=tfrecords/fer2013 --workdir=runs/grow_again \
      --init_from=runs/grow_160 --config.seed=3 --config.train.epochs=20 \
      --config.augment.mixup_off_epochs=8 \
      "--config.augment.policy=flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)|mixup(alpha=0.2)"

mobilenet_grow_sam: 11 more epochs with sharpness-aware minimization, each of which takes twice the time:
    python scripts/train.py --config=configs/mobilenet_grow.py --data=tfrecords/fer2013 --workdir=runs/grow_sam \
      --init_from=runs/grow_again --config.seed=4 --config.train.epochs=11 \
      --config.optimizer.sam_rho=0.1

Hardware: 2 cores of an AMD Zen 4 (AVX512_BF16), no GPU; other tests used the machine for part of the time.
Time: 116.3 minutes (250, 140 and 100 images/s); mobilenet_grow_again 118.8 more; mobilenet_grow_sam 110.7 more
(50 images/s).
Result on PublicTest, which selected the checkpoints:
    mobilenet_grow        71.7 % (95 % CI 70.3-73.2)  docs/results/runs/mobilenet_grow
    mobilenet_grow_again  71.9 % (95 % CI 70.4-73.4)  docs/results/runs/mobilenet_grow_again
    mobilenet_grow_sam    72.2 % (95 % CI 70.7-73.7)  docs/results/runs/mobilenet_grow_sam
"""

from fer.config import Augment, Experiment, FineTune, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(
            name="mobilenet",
            image_size=160,
            weights="weights/mobilenet_face.npz",
            normalization="caffe",
            stem_channels="sum",
            dropout=0.3,
        ),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"),
        optimizer=Optimizer(name="adamw", learning_rate=5e-4, weight_decay=0.05, warmup_epochs=0.5, grad_clip_norm=1.0),
        finetune=FineTune(layer_decay=0.96),
        train=Train(
            epochs=10,
            global_batch_size=128,
            label_source="posterior",
            label_smoothing=0.05,
            ema_decay=0.999,
        ),
    )
