"""FER+ with its eight classes: the bundled network with a new head, at 150 pixels.

The labels are the majority of FER+'s votes; faces without a majority are left out (docs/data.md). The bundled network
has been trained on the same Training faces with posterior targets of FER-2013's seven classes; it has no class
contempt.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --classes=ferplus --output=tfrecords/ferplus
    python scripts/train.py --config=configs/ferplus.py --data=tfrecords/ferplus --workdir=runs/ferplus \\
      --init_from=bundled
    python scripts/evaluate.py --workdir=runs/ferplus --data=tfrecords/ferplus

Hardware: 2 cores of an Intel Xeon with AMX, no GPU; tests used the machine at the same time.
Time: 50 minutes (34 to 57 images/s, on the busy machine).
Result on PublicTest, 3,199 faces, which selected the checkpoint:
    ferplus          88.3 % (95 % CI 87.2-89.4)  docs/results/ferplus/ferplus
"""

from fer.config import Augment, Experiment, FineTune, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(
            name="dlib_resnet",
            image_size=150,
            weights="none",
            truncate_at="conv5_block3",
            stem_channels="sum",
            dropout=0.3,
        ),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"),
        optimizer=Optimizer(name="adamw", learning_rate=5e-4, weight_decay=0.05, warmup_epochs=0.5, grad_clip_norm=1.0),
        finetune=FineTune(layer_decay=0.96),
        train=Train(epochs=5, global_batch_size=128, label_smoothing=0.05, ema_decay=0.995, save_every_steps=50),
    )
