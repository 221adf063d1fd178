"""MobileNet, trained on faces before, fine-tuned on FER-2013 at 160 pixels, twice in a row.

The faces that made the weights of configs/mobilenet_face.py were larger than those of FER-2013, and at 160 pixels the
frozen network tells more than at 96. Half of each target is the label, half what FER+'s votes say of it, so the shards
need votes. The second run begins with the best weights of the first and a fresh cosine.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/train.py --config=configs/mobilenet_face_160.py --data=tfrecords/fer2013 --workdir=runs/mobilenet_160
    python scripts/train.py --config=configs/mobilenet_face_160.py --data=tfrecords/fer2013 \
      --config.model.weights=runs/mobilenet_160/checkpoints/best-00004480.npz --config.seed=1 --config.train.epochs=13 \
      --config.optimizer.warmup_epochs=0.5 --workdir=runs/mobilenet_160b

Hardware: 2 cores of an AMD Zen 5 with AVX-512 and bfloat16, no GPU: 170 images/s, 65.3 minutes with tests running
beside it; the second run on one core, 95 images/s, 69.2 minutes.
Result: 70.0 % (95 %: 68.5 to 71.5) on PublicTest, which chose the checkpoint, and after the second run
70.7 % (69.2 to 72.2).
See docs/results/runs/mobilenet_face_160 and docs/results/runs/mobilenet_face_160b.
"""

from fer.config import Augment, Experiment, FineTune, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(
            name="mobilenet",
            image_size=160,
            weights="weights/mobilenet_face.npz",
            pixels="caffe",
            grey="sum",
            dropout=0.3,
        ),
        augment=Augment(
            policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)|mixup(0.2)",
            mixing_off_epochs=3,
        ),
        optimizer=Optimizer(name="adamw", learning_rate=4e-4, weight_decay=0.05, warmup_epochs=1.0, clip_norm=1.0),
        finetune=FineTune(layer_decay=0.92),
        train=Train(
            epochs=20,
            global_batch=128,
            targets="posterior",
            label_smoothing=0.05,
            ema_decay=0.999,
        ),
    )
