"""compact, our own network for 48x48 grey faces (1.9 M parameters, dense 3x3 convolutions), on FER-2013.

Commands:
    python scripts/convert.py --input=fer2013.csv --output=tfrecords/fer2013
    python scripts/train.py --config=configs/compact.py --data=tfrecords/fer2013 --workdir=runs/compact

Hardware: 2 cores of an AMD EPYC with AVX-512 bfloat16, no GPU: 340 images/s, 45.8 minutes.
Result: 66.3 % (95 %: 64.8 to 67.8) on PublicTest, which chose the checkpoint; 67.4 % with flip. See
docs/results/compact/eval.json.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="compact", dropout=0.2),
        augment=Augment(policy="flip|affine(rotate=12,scale=0.1,shift=0.06,shear=0.1)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=3e-3, warmup_epochs=3.0),
        train=Train(epochs=30, global_batch=128, precision="mixed_bfloat16", ema_decay=0.999),
    )
