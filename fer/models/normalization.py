"""Normalization of a backbone's input, and its effect on grey images.

It replaces the backbones' own normalization layers, which `fer.models.layer_surgery` removes. So a network with random
weights gets inputs of the same range as one with pretrained weights. Keras' EfficientNet, for example, would silently
leave pixels in [0, 1] without ImageNet weights.
"""

from __future__ import annotations

import dataclasses

import numpy as np

RGB_MEAN, RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in [0, 1]


@dataclasses.dataclass(frozen=True)
class Normalization:
    """Channel c of the network's input is `scale[c] * pixel + offset[c]`, pixels in [0, 255]."""

    scale: tuple[float, float, float]
    offset: tuple[float, float, float]

    @property
    def alike(self) -> bool:
        """True if all channels have the same scale and offset."""
        return len(set(zip(self.scale, self.offset))) == 1

    def mixing(self) -> np.ndarray:
        """Returns how the three channels follow from fewer ones.

        Zero padding comes after the normalization, so that a channel's offset cannot become a bias: it would also
        count at padded positions. It becomes a channel of ones, which is padded like the others.

        Returns:
          [3, 1] ones if all channels are equal; else [3, 2]: channel c is the product of row c with (the grey channel,
          a channel of ones), where the grey channel is normalized with the means of scale and offset.
        """
        if self.alike:
            return np.ones([3, 1], np.float32)
        scale, offset = np.array(self.scale), np.array(self.offset)
        share = scale / scale.mean()
        return np.stack([share, offset - share * offset.mean()], axis=1).astype(np.float32)


def _same_for_all(scale: float, offset: float) -> Normalization:
    return Normalization((scale,) * 3, (offset,) * 3)


# The keys are fer.config.NORMALIZATIONS.
NORMALIZATIONS = {
    "grey": _same_for_all(
        1 / 65, -129.5 / 65
    ),  # FER-2013's training pixels have mean 129.5 and standard deviation 65.0
    "unit": _same_for_all(1 / 255, 0.0),
    "tf": _same_for_all(1 / 127.5, -1.0),
    "v2": _same_for_all(1 / 128, -1.0),
    "lite": _same_for_all(1 / 128, -127 / 128),
    "arcface": _same_for_all(1 / 128, -127.5 / 128),
    "caffe": Normalization((1.0,) * 3, (-103.939, -116.779, -123.68)),  # blue, green, red
    "dlib": Normalization((1 / 256,) * 3, (-122.782 / 256, -117.001 / 256, -104.298 / 256)),  # red, green, blue
    "torch": Normalization(
        (1 / (255 * RGB_STD[0]), 1 / (255 * RGB_STD[1]), 1 / (255 * RGB_STD[2])),
        (-RGB_MEAN[0] / RGB_STD[0], -RGB_MEAN[1] / RGB_STD[1], -RGB_MEAN[2] / RGB_STD[2]),
    ),
}
