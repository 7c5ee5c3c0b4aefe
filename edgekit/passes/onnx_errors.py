"""What onnx and onnxruntime raise while a model is worked on, as one of our errors."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from edgekit.errors import ConversionError
from edgekit.model import Model
from edgekit_runtime.engines.ort import foreign_errors


@contextmanager
def as_conversion_error(model: Model, what: str) -> Iterator[None]:
    """A dozen unrelated errors become one. What the two say besides, for developers, is silenced."""
    foreign: tuple[type[Exception], ...] = (
        *foreign_errors(),
        AssertionError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    )
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except foreign as error:
        line = str(error).strip().partition("\n")[0][:300]
        raise ConversionError(
            f"{model.path.name}: onnxruntime's {what} failed: {line}", "build with --precision float32"
        ) from error
    finally:
        logging.disable(disabled)
