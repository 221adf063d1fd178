r"""MobileNet, pretrained on faces, fine-tuned at 160 pixels in two consecutive runs.

The images of the pretraining were larger than FER-2013's, and the frozen features are better at 160 pixels than at 96.
The targets are posterior targets, so the shards need FER+ votes. The second run starts from the best weights of the
first, with a new cosine schedule.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/import_weights.py --source=faceres --input=faceres-deep.json --data=tfrecords/fer2013 \
      --output=weights/mobilenet_face.npz
    python scripts/train.py --config=configs/mobilenet_face_160.py --data=tfrecords/fer2013 --workdir=runs/mobilenet_160
    python scripts/train.py --config=configs/mobilenet_face_160.py --data=tfrecords/fer2013 \
      --init_from=runs/mobilenet_160 --config.seed=1 --config.train.epochs=13 \
      --config.optimizer.warmup_epochs=0.5 --workdir=runs/mobilenet_160b

Hardware: 2 cores of an AMD Zen 5 (AVX512_BF16), no GPU, while other tests ran; one core for the second run.
Time: 65.3 minutes, 170 images/s; second run 69.2 minutes, 95 images/s.
Result on PublicTest, which selected the checkpoints:
    first run    70.0 % (95 % CI 68.5-71.5)  docs/results/runs/mobilenet_face_160
    second run   70.7 % (95 % CI 69.2-72.2)  docs/results/runs/mobilenet_face_160b
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
        augment=Augment(
            policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)|mixup(0.2)",
            mixup_off_epochs=3,
        ),
        optimizer=Optimizer(name="adamw", learning_rate=4e-4, weight_decay=0.05, warmup_epochs=1.0, grad_clip_norm=1.0),
        finetune=FineTune(layer_decay=0.92),
        train=Train(
            epochs=20,
            global_batch_size=128,
            label_source="posterior",
            label_smoothing=0.05,
            ema_decay=0.999,
        ),
    )
