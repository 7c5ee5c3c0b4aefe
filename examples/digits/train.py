"""Train the example's model: scikit-learn's digits → digits.onnx, calibration.npz, evaluation.npz.

    python -m venv train && train/bin/pip install torch==2.13.0 scikit-learn onnx
    train/bin/python train.py

Everything is written beside this file. Two runs on one machine write the same bytes.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).parent
SEED = 7
EPOCHS = 60
BATCH = 64
EVALUATION_SAMPLES = 400
CALIBRATION_SAMPLES = 200
OPSET, IR_VERSION = 17, 8  # what the oldest ONNX Runtime of any target profile accepts


def named(**layers: nn.Module) -> nn.Sequential:
    """The layers one after the other; their names become those of the ONNX nodes."""
    return nn.Sequential(OrderedDict(layers))


def block(channels_in: int, channels_out: int, size: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, size, padding=size // 2, bias=False)
    return named(conv=convolution, norm=nn.BatchNorm2d(channels_out), relu=nn.ReLU())


def network() -> nn.Sequential:
    """Float32 [N, 1, 8, 8], pixel values 0..1 → ten logits [N, 10]."""
    return named(
        stem=block(1, 32, 3),
        features1=block(32, 64, 3),
        pool1=nn.MaxPool2d(2),
        features2=block(64, 64, 3),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        classifier=nn.Linear(64 * 2 * 2, 10),
    )


def splits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images [n, 1, 8, 8] and labels [n]: training, then evaluation, with no sample in both."""
    digits = load_digits()
    images = (digits.images[:, np.newaxis] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=EVALUATION_SAMPLES, stratify=labels, random_state=SEED
    )
    return train, train_labels, test, test_labels


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Each image moved by up to one pixel along each axis: the only augmentation."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    moves = torch.randint(0, 3, (len(images), 2)).tolist()
    return torch.stack([image[:, y : y + 8, x : x + 8] for image, (y, x) in zip(padded, moves, strict=True)])


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-2)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images)).split(BATCH):
            loss = nn.functional.cross_entropy(model(shifted(images[chosen])), labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.inference_mode():
        return float((model(images).argmax(1) == labels).double().mean())


def export(model: nn.Module, path: Path) -> None:
    """Write ONNX with a dynamic batch; the exporter folds each BatchNorm into its convolution."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.zeros(1, 1, 8, 8),),
            str(path),
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
            opset_version=OPSET,
            dynamo=False,
        )
    proto = onnx.load(path)
    proto.ir_version = IR_VERSION
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def main() -> None:
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    images, labels, test_images, test_labels = splits()
    model = network()
    train(model, torch.from_numpy(images), torch.from_numpy(labels))
    model.eval()
    export(model, HERE / "digits.onnx")
    np.savez_compressed(HERE / "calibration.npz", x=images[:CALIBRATION_SAMPLES])
    np.savez_compressed(HERE / "evaluation.npz", x=test_images, labels=test_labels)
    right = accuracy(model, torch.from_numpy(test_images), torch.from_numpy(test_labels))
    print(f"{sum(p.numel() for p in model.parameters())} parameters, test accuracy {right:.2%} of {len(test_images)}")


if __name__ == "__main__":
    main()
