"""The demo: synthetic faces at 24 pixels, a small network, two replicas. `make demo` runs it.

Commands:
    python scripts/convert.py --input=synthetic:2500 --output=runs/demo/tfrecords
    python scripts/train.py --config=configs/demo.py --data=runs/demo/tfrecords --workdir=runs/demo/run

Hardware: 2 cores of an Intel Xeon, or of an AMD EPYC (Zen 3), with ONEDNN_MAX_CPU_ISA=AVX2, no GPU.
Time: 40 to 60 s for the whole of `make demo`.
Result: 69 % on the synthetic test split.
"""

from fer.config import Augment, Experiment, Model, Optimizer, Train


def get_config() -> Experiment:
    return Experiment(
        model=Model(name="compact_s", image_size=24, dropout=0.0),
        augment=Augment(policy="flip|affine(rotate=8,shift=0.04)"),
        optimizer=Optimizer(name="sgd", learning_rate=0.06, weight_decay=2e-3, warmup_epochs=1.0),
        train=Train(epochs=5, global_batch_size=32, label_smoothing=0.0, ema_decay=0.98, num_replicas=2),
    )
