"""`compact`, distilled from a trained network (Hinton et al. 2015, arXiv:1503.02531).

The teacher is configs/mobilenet_face.py; config.train.teacher_runs names its run directory, or several of any networks.
Seven tenths of each target are the teacher's probabilities for the same augmented face, so label smoothing is off.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --output=tfrecords/fer2013
    python scripts/train.py --config=configs/compact_distilled.py --data=tfrecords/fer2013 --workdir=runs/distilled

Hardware: 2 cores of an AMD Zen 5 (AVX512_BF16), no GPU; other tests used the machine.
Time: 47.2 minutes, 440 images/s at the end.
Result: 68.3 % (95 % CI 66.8-69.8) on PublicTest, which selected the checkpoint. See
docs/results/runs/compact_distilled.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="compact", dropout=0.3),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=2.5e-3, warmup_epochs=3.0),
        train=Train(
            epochs=36,
            global_batch_size=128,
            teacher_runs="runs/mobilenet_face",
            distill_weight=0.7,
            label_smoothing=0.0,
            ema_decay=0.999,
        ),
    )
