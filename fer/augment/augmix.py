"""AugMix: mixes each image with the mean of several changed copies of it.

Source: Hendrycks et al. 2020, arXiv:1912.02781, without the Jensen-Shannon consistency loss.

Each copy is changed by a chain of one to three ops, drawn uniformly. The ops are those of the authors' code, which
omits those that the test corruptions contain: contrast, brightness and sharpness. The order within a chain is that of
`ops.apply`. The weights of the copies are drawn from Dirichlet(1, ..., 1), their total weight from Beta(1, 1).
"""

from __future__ import annotations

from fer.augment import ops, randaugment, xla_support
from fer.augment.registry import register_op
from fer.lazy_modules import tf
from fer.rng import BatchRng

MAX_DEPTH = 3
CHAIN = randaugment.PAPER._replace(
    operations=tuple(
        name for name in randaugment.OPERATIONS if name not in ("identity", "contrast", "brightness", "sharpness")
    ),
    translate=1 / 3,  # fraction of the side, as in the authors' code
    bits=lambda strength: tf.maximum(4 - tf.floor(4 * strength), 1),  # as there, but at least 1
)


@register_op("augmix", kind="pixel", severity=(0.1, randaugment.MAX_MAGNITUDE), width=(1, 8))
def augmix(images: tf.Tensor, rng: BatchRng, severity: float = 3.0, width: int = 3) -> tf.Tensor:
    """Mixes each image with changed copies of itself.

    Args:
      images: [B, H, W, 1] uint8.
      severity: the magnitude of each op is uniform in 0.1 to `severity`, of 10.
      width: number of copies of an image.

    Returns:
      [B, H, W, 1] uint8.
    """
    copies = [
        ops.apply(images, [_draw_chain(rng.fold_in(number), images.shape[1], severity)]) for number in range(width)
    ]
    # Dirichlet(1, ..., 1): exponentials over their sum; Beta(1, 1) is uniform.
    shares = -tf.math.log(1 - rng.fold_in(width).uniform(width))
    weights = shares / tf.maximum(tf.reduce_sum(shares, axis=1, keepdims=True), 1e-30)
    changed = rng.fold_in(width + 1).uniform(1) * weights
    return _mix_copies(images, tf.stack(copies, axis=1), changed)


def _draw_chain(rng: BatchRng, side: int, severity: float) -> ops.LazyOp:
    """Draws one to three ops for each image and combines them."""
    depth = tf.floor(rng.fold_in(MAX_DEPTH).uniform(1)[:, 0] * MAX_DEPTH) + 1
    levels = rng.fold_in(MAX_DEPTH + 1).uniform(MAX_DEPTH)
    layers = []
    for number in range(MAX_DEPTH):
        layer = randaugment.draw_layer(rng.fold_in(number), CHAIN, randaugment.MAX_MAGNITUDE)
        level = (0.1 + (severity - 0.1) * levels[:, number]) / randaugment.MAX_MAGNITUDE
        in_chain = {name: chosen & (number < depth) for name, chosen in layer.drawn.items()}
        layers.append(randaugment.Layer(in_chain, layer.strength * level))
    return ops.compose(layers, CHAIN, side)


@xla_support.xla_compiled
def _mix_copies(images: tf.Tensor, copies: tf.Tensor, changed: tf.Tensor) -> tf.Tensor:
    """Mixes images [B, H, W, 1] with their copies [B, width, H, W, 1], whose weights are `changed` [B, width]."""
    shares = changed[:, :, tf.newaxis, tf.newaxis, tf.newaxis]
    own = 1 - tf.reduce_sum(shares, axis=1)
    mixed = own * tf.cast(images, tf.float32) + tf.reduce_sum(shares * tf.cast(copies, tf.float32), axis=1)
    return xla_support.to_uint8(mixed)
