"""Other people's augmentation: loops over images in processes of their own, as data loaders run them.

A process loads neither TensorFlow nor fer's rooms, so this file imports nothing of them.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Iterator

import numpy as np

Change = Callable[[np.ndarray], object]

_images: np.ndarray
_change: Change


def albumentations_randaugment() -> Change:
    """Two of a RandAugment-like dozen, with OpenCV on one thread: [48, 48, 1] uint8 -> the same."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else importing it asks the network for a newer one
    import albumentations
    import cv2

    cv2.setNumThreads(0)
    operations = [
        albumentations.NoOp(p=1),
        albumentations.AutoContrast(p=1),
        albumentations.Equalize(p=1),
        albumentations.Solarize(p=1),
        albumentations.Posterize(p=1),
        albumentations.RandomBrightnessContrast(brightness_limit=0.8, contrast_limit=0, p=1),
        albumentations.RandomBrightnessContrast(brightness_limit=0, contrast_limit=0.8, p=1),
        albumentations.Sharpen(p=1),
        albumentations.Affine(rotate=(-27, 27), p=1),
        albumentations.Affine(shear={"x": (-15, 15)}, p=1),
        albumentations.Affine(shear={"y": (-15, 15)}, p=1),
        albumentations.Affine(translate_percent={"x": (-0.4, 0.4)}, p=1),
    ]
    two = albumentations.Compose([albumentations.SomeOf(operations, n=2)])
    return lambda image: two(image=image)["image"]


def torchvision_randaugment() -> Change:
    """RandAugment(2, 9) on Pillow images, as a PyTorch data set reads them: [48, 48, 1] uint8 -> an image."""
    from PIL import Image

    try:
        from torchvision import transforms
    except RuntimeError:
        # Built for a GPU, beside a torch built for none, torchvision misses operators that no transform uses.
        import torch

        torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
        torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
        from torchvision import transforms

    randaugment = transforms.RandAugment(num_ops=2, magnitude=9)
    return lambda image: randaugment(Image.fromarray(image[..., 0]))


# name -> (the package that it needs, how its change is made)
BASELINES = {
    "albumentations": ("albumentations", albumentations_randaugment),
    "torchvision": ("torchvision", torchvision_randaugment),
}


def missing(name: str) -> bool:
    """Whether the package of a rival is not installed; the extra `bench` has all."""
    return importlib.util.find_spec(BASELINES[name][0]) is None


@contextlib.contextmanager
def running(name: str, images: np.ndarray, processes: int, repeats: int) -> Iterator[Callable[[], int]]:
    """Starts a rival's processes; the function given changes every image `repeats` times in each, and counts them.

    Args:
      name: a key of `RIVALS`.
      images: [N, 48, 48, 1] uint8, held by each process, so that sending them costs the rival nothing.
      processes: usually as many as cores.
      repeats: passes over the images a call.
    """
    context = multiprocessing.get_context("spawn")  # a fork of TensorFlow's threads may hang
    with concurrent.futures.ProcessPoolExecutor(processes, context, _prepare, (name, images)) as pool:
        yield lambda: sum(pool.map(_changed, [repeats] * processes))


def _prepare(name: str, images: np.ndarray) -> None:
    global _images, _change
    _images, _change = images, BASELINES[name][1]()


def _changed(repeats: int) -> int:
    for _ in range(repeats):
        for image in _images:
            _change(image)
    return repeats * len(_images)
