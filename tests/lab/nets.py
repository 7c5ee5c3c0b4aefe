"""Modules of PyTorch for tests, by factories; a test copies this file into its project."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Two convolutions of 3×3 and a shortcut without parameters."""

    def __init__(self, before: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters)
        self.conv2, self.bn2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters)
        self.stride, self.padding = stride, (filters - before) // 2

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return functional.relu(y + shortcut)


class ResNet20(nn.Module):
    """The CIFAR ResNet of He et al., arXiv:1512.03385."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1), Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        x = self.layer3(self.layer2(self.layer1(functional.relu(self.bn1(self.conv1(x))))))
        return self.linear(functional.avg_pool2d(x, x.shape[-1]).flatten(1))


class Several(nn.Module):
    """Inputs of several types, one of which changes nothing, and outputs within each other."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.words = nn.Linear(4, 3), nn.Embedding(5, 3)

    def forward(self, right: Any, word: Any, *, left: Any, unused: Any) -> Any:
        return {"zeta": self.linear(right - left), "alpha": (self.words(word), right + 1)}


class Image(nn.Module):
    """Any height and width."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, image: Any) -> Any:
        y = functional.interpolate(
            self.norm(functional.pad(self.conv(image), (1, 1, 1, 1))), scale_factor=2.0, mode="bilinear"
        )
        return self.linear(functional.dropout(y, training=self.training).mean((2, 3)))


class OneByOne(nn.Module):
    """Only takes a batch of 1."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.linear(x.reshape(1, 4))


def seeded(module: Any) -> Any:
    torch.manual_seed(0)
    return module()


def resnet20() -> Any:
    return ResNet20()


def several() -> Any:
    return seeded(Several)


def image() -> Any:
    return seeded(Image)


def one_by_one() -> Any:
    return seeded(OneByOne)


def nothing() -> Any:
    return {"no": "module"}
