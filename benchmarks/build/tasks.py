"""Tasks: models with data that belong to them; pretrained ones of ``../shared/models``, and two that are made here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.building.order import Order
from edgekit_runtime.preprocess import Preprocess

SHARED = Path(__file__).parents[3] / "shared" / "models"
Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Arrays:
    """An .npz with ``calib_x``, ``calib_y``, ``test_x`` and ``test_y``."""

    path: Path
    change: Change = lambda x: x

    def write(self, folder: Path) -> None:
        """The two splits, as files of the kind that edgekit reads; no calibration sample is in the other, too."""
        with np.load(self.path) as data:
            known = {sample.tobytes() for sample in data["test_x"]}
            apart = np.array([sample.tobytes() not in known for sample in data["calib_x"]])
            for split, role, kept in (("calib", "calibration", apart), ("test", "evaluation", slice(None))):
                labels = {"labels": data[f"{split}_y"][kept]} if f"{split}_y" in data else {}
                np.savez(folder / f"{role}.npz", x=self.change(data[f"{split}_x"][kept]), **labels)

    def places(self, folder: Path) -> tuple[str, str]:
        return str(folder / "calibration.npz"), str(folder / "evaluation.npz")


@dataclass(frozen=True)
class Images:
    """A folder of images with a labels.csv that tells the splits."""

    path: Path

    def write(self, folder: Path) -> None:
        """Nothing: they are read where they are."""

    def places(self, folder: Path) -> tuple[str, str]:
        return str(self.path), str(self.path)


@dataclass(frozen=True)
class Task:
    """A model and what belongs to it; ``about`` says what it is."""

    name: str
    about: str
    model: Path
    data: Arrays | Images
    preprocess: dict[str, Preprocess] = field(default_factory=dict)

    @property
    def missing(self) -> Path | None:
        return next((path for path in (self.model, self.data.path) if not path.exists()), None)

    def order(self, folder: Path) -> Order:
        """What edgekit is asked for; ``data.write(folder)`` must have been called."""
        return Order("app", "1", *self.data.places(folder), folder, 1, preprocess=self.preprocess)


def _data(name: str) -> Path:
    return SHARED / "data" / name


CIFAR = _data("cifar10.npz")
RAW = Arrays(CIFAR, lambda x: x.astype(np.float32))
KEYWORDS = Arrays(_data("speech_commands_mfcc.npz"))
NORMAL = Preprocess(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), layout="NCHW")
CROPPED = Preprocess(crop=(224, 224), scale=1 / 127.5, mean=(1.0,))
LINES = Preprocess(color="bgr", mean=(127.5,), std=(127.5,), layout="NCHW")

PRETRAINED = (
    Task("resnet8", "ResNet-8 of MLPerf Tiny, CIFAR-10", SHARED / "resnet8_cifar10/resnet8_cifar10.keras", RAW),
    Task(
        "resnet20",
        "ResNet-20, CIFAR-10",
        SHARED / "resnet20_cifar10/resnet20_cifar10.onnx",
        Arrays(CIFAR),
        {"image": NORMAL},
    ),
    Task("dscnn", "DS-CNN of MLPerf Tiny, 12 keywords (SavedModel)", SHARED / "dscnn_kws/saved_model", KEYWORDS),
    Task(
        "dscnn-tflite",
        "DS-CNN of MLPerf Tiny, 12 keywords (TFLite, another checkpoint)",
        SHARED / "dscnn_kws/dscnn_kws_float32.tflite",
        KEYWORDS,
    ),
    Task(
        "vww",
        "MobileNetV1 0.25 of MLPerf Tiny, person or none",
        SHARED / "mobilenetv1_025_vww/mobilenetv1_025_96_vww.h5",
        Images(_data("vww96")),
        {"input_1": Preprocess(scale=1 / 255)},
    ),
    Task(
        "imagenet",
        "MobileNetV1 0.25, ImageNet",
        SHARED / "mobilenetv1_025_imagenet/mobilenetv1_025_224_imagenet.h5",
        Images(_data("imagenet_samples")),
        {"input_2": CROPPED},
    ),
    Task(
        "textline",
        "MobileNetV3 0.35 of PP-OCR, text upright or turned",
        SHARED / "ppocr_textline_cls/ppocr_mobile_v2_textline_cls.onnx",
        Arrays(_data("textline_orientation.npz")),
        {"x": LINES},
    ),
)


def made(folder: Path) -> tuple[Task, ...]:
    """The tasks whose models and data ``making.make`` has put into a folder."""
    return (
        Task(
            "detector",
            "detector head: boxes of 0 to 640 beside scores of 0 to 1 in one output",
            folder / "detector.keras",
            Arrays(folder / "detector.npz"),
        ),
        Task(
            "transformer",
            "transformer of two layers, 12 keywords",
            folder / "transformer.keras",
            Arrays(folder / "transformer.npz"),
        ),
    )
