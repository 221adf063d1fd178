r"""MobileNet, pretrained on faces, cut after conv_pw_11 and fine-tuned at growing sizes: 80, 96 and 128 pixels.

It descends from other initial weights than mobilenet_grow.py, whose networks it joins in an ensemble. mobilenet_fast.py
says why the network is cut. The targets are posterior targets, so the shards need FER+ votes.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/import_weights.py --source=faceres --input=faceres.json --data=tfrecords/fer2013 \
      --output=weights/mobilenet_faceres.npz
    python scripts/train.py --config=configs/mobilenet_faceres.py --data=tfrecords/fer2013 --workdir=runs/faceres_80 \
      --config.model.image_size=80 --config.seed=0 --config.optimizer.schedule=constant --config.train.epochs=6
    python scripts/train.py --config=configs/mobilenet_faceres.py --data=tfrecords/fer2013 --workdir=runs/faceres_96 \
      --init_from=runs/faceres_80 --config.model.image_size=96 \
      --config.seed=1 --config.optimizer.schedule=constant --config.train.epochs=6
    python scripts/train.py --config=configs/mobilenet_faceres.py --data=tfrecords/fer2013 \
      --workdir=runs/mobilenet_faceres --init_from=runs/faceres_96

mobilenet_faceres_mixup: 6 more epochs, mixup in the first four. mobilenet_faceres_soup is the mean of this run and of
the second one (69.3 %):
    python scripts/train.py --config=configs/mobilenet_faceres.py --init_from=runs/mobilenet_faceres \
      --data=tfrecords/fer2013 --workdir=runs/faceres_mixup --config.seed=11 --config.train.epochs=6 \
      --config.optimizer.learning_rate=4e-4 --config.augment.mixup_off_epochs=2 \
      "--config.augment.policy=flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)|mixup(alpha=0.2)"
    python scripts/train.py --config=configs/mobilenet_faceres.py --init_from=runs/mobilenet_faceres \
      --data=tfrecords/fer2013 --workdir=runs/faceres_mixup_b --config.seed=12 --config.train.epochs=6 \
      --config.optimizer.learning_rate=6e-4 --config.augment.mixup_off_epochs=2 \
      "--config.augment.policy=flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)|mixup(alpha=0.4)"
    python scripts/soup.py --workdir=runs/faceres_mixup,runs/faceres_mixup_b --data=tfrecords/fer2013 \
      --recipe=uniform --output=runs/faceres_soup

mobilenet_faceres_distilled: 4 more epochs with the bundled network, of other initial weights, as the teacher:
    python scripts/train.py --config=configs/mobilenet_faceres.py --init_from=runs/mobilenet_faceres \
      --data=tfrecords/fer2013 --workdir=runs/faceres_distilled --config.seed=13 --config.train.epochs=4 \
      --config.optimizer.learning_rate=4e-4 --config.train.teacher_runs=fer/models/bundled \
      --config.train.distill_weight=0.7 --config.train.label_smoothing=0 --config.augment.mixup_off_epochs=1 \
      "--config.augment.policy=flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)|mixup(alpha=0.2)"

Hardware: one core of an Intel Xeon (AVX-512, no bfloat16), float32; another training and tests used the other core. The
runs with mixup: one core each of an AMD Zen 3 (AVX2), beside other programs.
Time: 111.4 minutes (150, 92 and 59 images/s); mobilenet_faceres_mixup 95.8 more (30 images/s);
mobilenet_faceres_distilled 73.9 more (27 images/s).
Result on PublicTest, which selected the checkpoints; "expected" was predicted before the run:
    mobilenet_faceres        69.1 % (95 % CI 67.6-70.6)  docs/results/runs/mobilenet_faceres; expected: 69.5
    mobilenet_faceres_mixup  69.2 % (95 % CI 67.6-70.6)  docs/results/runs/mobilenet_faceres_mixup; expected: 70.3
    mobilenet_faceres_soup   69.2 % (95 % CI 67.7-70.7)  docs/results/runs/mobilenet_faceres_soup; expected: 70.8
    mobilenet_faceres_distilled  69.1 % (95 % CI 67.5-70.6)  docs/results/runs/mobilenet_faceres_distilled;
                             expected: 69.5
"""

from fer.config import Augment, Experiment, FineTune, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        seed=2,
        model=Model(
            name="mobilenet",
            image_size=128,
            weights="weights/mobilenet_faceres.npz",
            normalization="caffe",
            truncate_at="conv_pw_11",
            stem_channels="sum",
            dropout=0.3,
        ),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"),
        optimizer=Optimizer(name="adamw", learning_rate=5e-4, weight_decay=0.05, warmup_epochs=0.5, grad_clip_norm=1.0),
        finetune=FineTune(layer_decay=0.96),
        train=Train(
            epochs=7,
            global_batch_size=128,
            label_source="posterior",
            label_smoothing=0.05,
            ema_decay=0.999,
        ),
    )
