r"""dlib's face recognition network (D. King, CC0), fine-tuned at growing sizes: 112, 128 and 150 pixels.

dlib_face_recognition_resnet_model_v1.dat is in the PyPI package face_recognition_models. The targets are posterior
targets, so the shards need FER+ votes.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/import_weights.py --source=dlib --input=dlib_face_recognition_resnet_model_v1.dat \
      --data=tfrecords/fer2013 --output=weights/dlib_resnet.npz
    python scripts/train.py --config=configs/dlib_resnet.py --data=tfrecords/fer2013 --workdir=runs/dlib_112 \
      --config.model.image_size=112 --config.optimizer.schedule=constant --config.train.epochs=8
    python scripts/train.py --config=configs/dlib_resnet.py --data=tfrecords/fer2013 --workdir=runs/dlib_128 \
      --init_from=runs/dlib_112 --config.model.image_size=128 \
      --config.optimizer.schedule=constant --config.seed=1
    python scripts/train.py --config=configs/dlib_resnet.py --data=tfrecords/fer2013 --workdir=runs/dlib_150 \
      --init_from=runs/dlib_128 --config.seed=2 --config.train.epochs=20 \
      --config.optimizer.learning_rate=1e-3

dlib_distilled: 24 more epochs with the teacher mobilenet_grow_sam (configs/mobilenet_grow.py), mixup in the first 16:
    python scripts/train.py --config=configs/dlib_resnet.py --data=tfrecords/fer2013 --workdir=runs/dlib_distilled \
      --init_from=runs/dlib_150 --config.seed=3 --config.train.epochs=24 \
      --config.optimizer.learning_rate=1e-3 --config.train.teacher_runs=runs/grow_sam \
      --config.train.distill_weight=0.7 --config.train.label_smoothing=0 --config.augment.mixup_off_epochs=8 \
      "--config.augment.policy=flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)|mixup(alpha=0.2)"

dlib_long: 36 more epochs without a teacher, mixup in the first 24, from the float16 weights that the package contained
at commit c622e88:
    git show c622e88:fer/models/weights/weights.npz > weights/bundled.npz
    python scripts/train.py --config=configs/dlib_resnet.py --data=tfrecords/fer2013 --workdir=runs/dlib_long \
      --config.model.weights=weights/bundled.npz --config.seed=5 --config.train.epochs=36 \
      --config.optimizer.learning_rate=1e-3 --config.augment.mixup_off_epochs=12 \
      "--config.augment.policy=flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)|mixup(alpha=0.4)"

The bundled network, dlib_soup: 10 more epochs with blur and noise (dlib_noise), then the mean of the weights before and
after. It starts from the bundled network of commit 2e4b7bd, which is dlib_long in float16 (records call it `bundled`):
    git worktree add ../fer-2e4b7bd 2e4b7bd
    python scripts/train.py --config=configs/dlib_resnet.py --data=tfrecords/fer2013 --workdir=runs/dlib_noise \
      --init_from=../fer-2e4b7bd/fer/models/bundled --config.seed=7 --config.train.epochs=10 \
      --config.optimizer.learning_rate=7e-4 --config.augment.mixup_off_epochs=4 \
      "--config.augment.policy=flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|blur(p=0.2)|erase(p=0.4,high=0.2)|noise(std=20,p=0.4)|mixup(alpha=0.2)"
    python scripts/soup.py --workdir=../fer-2e4b7bd/fer/models/bundled,runs/dlib_noise --data=tfrecords/fer2013 \
      --recipe=uniform --output=runs/dlib_soup
The weights of dlib_noise are twice those of the new bundled network minus those of the previous one, up to 0.1 % of the
largest weight of each array.

dlib_sam: 6 more epochs with sharpness-aware minimization, which brought nothing:
    python scripts/train.py --config=configs/dlib_resnet.py --data=tfrecords/fer2013 --workdir=runs/dlib_sam \
      --init_from=../fer-2e4b7bd/fer/models/bundled --config.seed=6 --config.train.epochs=6 \
      --config.optimizer.sam_rho=0.1

Hardware: 2 cores of an AMD Zen 4 (AVX512_BF16), no GPU; other tests used the machine for part of the time.
Time: 90.5 minutes (310, 245 and 188 images/s); dlib_distilled 124.9 more (115 images/s alone); dlib_long 121.9 more
(154 to 183 images/s alone). On 2 cores of an Intel Xeon (AMX): dlib_noise 32.6 minutes (176 images/s alone), dlib_sam
46.5 (80 images/s alone), both beside other programs.
Result on PublicTest, which selected the checkpoints; "expected" was predicted before the run:
    dlib_resnet      69.7 % (95 % CI 68.2-71.2)  docs/results/runs/dlib_resnet
    dlib_distilled   70.4 % (95 % CI 68.8-71.8)  docs/results/runs/dlib_distilled
    dlib_long        70.8 % (95 % CI 69.3-72.2)  docs/results/runs/dlib_long
    dlib_sam         70.6 % (95 % CI 69.1-72.1)  docs/results/runs/dlib_sam; expected: 71.5
    dlib_noise       70.1 % (95 % CI 68.6-71.6)  docs/results/runs/dlib_noise; expected: 70.5
    dlib_soup        70.8 % (95 % CI 69.3-72.2)  docs/results/runs/dlib_soup, the bundled network
"""

from fer.config import Augment, Experiment, FineTune, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(
            name="dlib_resnet",
            image_size=150,
            weights="weights/dlib_resnet.npz",
            truncate_at="conv5_block3",
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
