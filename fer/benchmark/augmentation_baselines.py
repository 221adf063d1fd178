"""Augmentation of other libraries, image by image in worker processes, as PyTorch's data loaders run it.

This module imports neither TensorFlow nor other packages of fer, so that the workers do not import them either.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Iterator

import numpy as np

Transform = Callable[[np.ndarray], object]

_images: np.ndarray
_transform: Transform


def albumentations_randaugment() -> Transform:
    """Returns Albumentations' choice of two from twelve RandAugment-like ops: [48, 48, 1] uint8 to the same shape.

    OpenCV uses one thread per process.
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # otherwise the import queries the network for a newer version
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


def torchvision_randaugment() -> Transform:
    """Returns torchvision's RandAugment(2, 9): [48, 48, 1] uint8 to a Pillow image, the type of PyTorch datasets."""
    from PIL import Image

    try:
        from torchvision import transforms
    except RuntimeError:
        # A torchvision build for GPUs lacks these operators next to a torch build for CPUs; no transform uses them.
        import torch

        torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
        torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
        from torchvision import transforms

    randaugment = transforms.RandAugment(num_ops=2, magnitude=9)
    return lambda image: randaugment(Image.fromarray(image[..., 0]))


# name -> (required package, function that builds the transform)
BASELINES = {
    "albumentations": ("albumentations", albumentations_randaugment),
    "torchvision": ("torchvision", torchvision_randaugment),
}


def is_missing(name: str) -> bool:
    """Returns whether the package of a baseline is not installed; the extra `bench` installs all of them."""
    return importlib.util.find_spec(BASELINES[name][0]) is None


@contextlib.contextmanager
def start_workers(name: str, images: np.ndarray, processes: int, repeats: int) -> Iterator[Callable[[], int]]:
    """Starts the worker processes of a baseline, which end with the block.

    Args:
      name: a key of `BASELINES`.
      images: [N, 48, 48, 1] uint8; sent to each process once, so that a measurement does not include the transfer.
      processes: the number of processes, usually that of the CPU cores.
      repeats: passes over the images per call.

    Yields:
      A function that transforms every image `repeats` times in each process and returns the number of images.
    """
    context = multiprocessing.get_context("spawn")  # forking a process with TensorFlow's threads can deadlock
    with concurrent.futures.ProcessPoolExecutor(processes, context, _prepare, (name, images)) as pool:
        yield lambda: sum(pool.map(_transform_images, [repeats] * processes))


def _prepare(name: str, images: np.ndarray) -> None:
    global _images, _transform
    _images, _transform = images, BASELINES[name][1]()


def _transform_images(repeats: int) -> int:
    for _ in range(repeats):
        for image in _images:
            _transform(image)
    return repeats * len(_images)
