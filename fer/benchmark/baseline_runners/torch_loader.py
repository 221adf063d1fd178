"""Trains with PyTorch, torchvision's transforms and a DataLoader."""

from __future__ import annotations

import itertools
import os

import numpy as np
import runner
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

# (channels, stride) of the 13 depthwise separable convolutions of MobileNet (Howard et al. 2017, arXiv:1704.04861).
MOBILENET = [
    *[(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)],
    *[(512, 1)] * 5,
    *[(1024, 2), (1024, 1)],
]


class Faces(Dataset):
    """Images in memory, transformed one by one."""

    def __init__(self, split: runner.Split, transform: transforms.Compose):
        self._split, self._transform = split, transform

    def __len__(self) -> int:
        return len(self._split.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(self._split.images[index]), int(self._split.labels[index])


class Residual(nn.Module):
    """Two convolutions with a residual connection."""

    def __init__(self, width: int):
        super().__init__()
        self.change = nn.Sequential(*convolution(width, width), *convolution(width, width)[:2])
        nn.init.zeros_(self.change[-1].weight)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, h, w] to the same shape."""
        return torch.relu(inputs + self.change(inputs))


def convolution(channels: int, width: int, stride: int = 1, groups: int = 1, size: int = 3) -> list[nn.Module]:
    """Returns a convolution, its batch normalization and its activation."""
    layer = nn.Conv2d(channels, width, size, stride, padding=size // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(width, eps=1e-3), nn.ReLU()]


def compact_s() -> nn.Module:
    """Builds the network of `fer.models.backbones.compact` of width 16, from [B, 1, 48, 48] to logits [B, 7]."""
    return nn.Sequential(
        *convolution(1, 16),
        *convolution(16, 32, stride=2),
        *convolution(32, 32),
        *convolution(32, 64, stride=2),
        Residual(64),
        *convolution(64, 128, stride=2),
        Residual(128),
        *head(128),
    )


def mobilenet() -> nn.Module:
    """Builds MobileNet v1 with the activation of Keras' version, from [B, 1, 48, 48] to logits [B, 7]."""
    layers, channels = convolution(1, 32, stride=2), 32
    for width, stride in MOBILENET:
        layers += [*convolution(channels, channels, stride, groups=channels), *convolution(channels, width, size=1)]
        channels = width
    layers = [nn.ReLU6() if isinstance(layer, nn.ReLU) else layer for layer in layers]
    return nn.Sequential(*layers, *head(channels))


def head(channels: int) -> list[nn.Module]:
    """Returns average pooling and the logits of the classes."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, runner.CLASSES)]


NETWORKS = {"compact_s": compact_s, "mobilenet": mobilenet}


def count_parameters(network: nn.Module) -> int:
    """Counts the parameters and the statistics of batch normalization, as Keras does."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    return sum(tensor.numel() for tensor in tensors if tensor.is_floating_point())


def train(task: runner.Task, training: runner.Split, validation: runner.Split, weights: str) -> runner.Classifier:
    """Trains with rotation, shift, zoom and flip; see `runner.run`."""
    augment = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.RandomHorizontalFlip(),
            transforms.RandomAffine(
                runner.ROTATION, (runner.SHIFT, runner.SHIFT), (1 - runner.SCALE, 1 + runner.SCALE)
            ),
            transforms.ToTensor(),
        ]
    )
    workers = os.cpu_count() or 1
    batches = DataLoader(
        Faces(training, augment), task.batch_size, shuffle=True, num_workers=workers, persistent_workers=True
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = NETWORKS[task.network]().to(device)
    optimizer, criterion = torch.optim.Adam(network.parameters(), runner.LEARNING_RATE), nn.CrossEntropyLoss()

    def predict(images: np.ndarray) -> np.ndarray:
        network.eval()
        scaled = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            parts = [network(part.to(device)).argmax(1).cpu() for part in scaled.split(task.batch_size)]
        return torch.cat(parts).numpy()

    best = -1.0
    for epoch in range(1, task.epochs + 1):
        network.train()
        for images, labels in batches:
            optimizer.zero_grad()
            loss = criterion(network(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
        accuracy = float((predict(validation.images) == validation.labels).mean())
        print(f"epoch {epoch}: loss {loss.item():.3f}, validation accuracy {accuracy:.3f}", flush=True)
        if accuracy > best:
            best = accuracy
            torch.save(network.state_dict(), f"{weights}.pt")
    return runner.Classifier(predict, count_parameters(network))


if __name__ == "__main__":
    runner.run(train)
