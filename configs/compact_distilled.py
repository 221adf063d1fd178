"""compact, taught by a network that was trained before (Hinton et al. 2015, arXiv:1503.02531).

The teacher is configs/mobilenet_face.py; config.train.teacher names its run folder, or several of any networks. Seven
tenths of each target are what the teacher sees in the same augmented face, which no label smoothing has to soften.

Commands:
    python scripts/convert.py --input=fer2013.csv --output=tfrecords/fer2013
    python scripts/train.py --config=configs/compact_distilled.py --data=tfrecords/fer2013 --workdir=runs/distilled

Hardware: 2 cores of an AMD Zen 5 with AVX-512 and bfloat16, no GPU: 440 images/s at the end, 47.2 minutes with
tests running beside it.
Result: 68.3 % (95 %: 66.8 to 69.8) on PublicTest, which chose the checkpoint. See docs/results/runs/compact_distilled.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="compact", dropout=0.3),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=2.5e-3, warmup_epochs=3.0),
        train=Train(
            epochs=36,
            global_batch=128,
            teacher="runs/mobilenet_face",
            teacher_share=0.7,
            label_smoothing=0.0,
            ema_decay=0.999,
        ),
    )
