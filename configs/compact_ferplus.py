"""`compact`, trained on the ten votes of FER+ (Barsoum et al. 2016, arXiv:1608.01041) instead of FER-2013's labels.

`label_source="ferplus"` is the distribution of the votes; `mixture` is the mean of votes and label. Validation uses
FER-2013's labels; `scripts/evaluate.py --labels=ferplus` scores against the majority of the votes.

Commands:
    python scripts/convert.py --input=fer2013.csv --ferplus=fer2013new.csv --drop=not_a_face --output=tfrecords/ferplus
    python scripts/train.py --config=configs/compact_ferplus.py --data=tfrecords/ferplus --workdir=runs/compact_ferplus

Hardware: any CPU or GPU, as configs/compact.py.
Time and result: not trained to the end.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="compact", dropout=0.3),
        augment=Augment(policy="flip|affine(rotate=15,scale=0.15,shift=0.08,shear=0.1)|erase(p=0.4,high=0.2)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.1, weight_decay=2.5e-3, warmup_epochs=3.0),
        train=Train(epochs=56, global_batch_size=128, label_source="ferplus", label_smoothing=0.0, ema_decay=0.999),
    )
