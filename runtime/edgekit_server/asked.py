"""Asked: a request for inference as it was read, in whichever dialect; and the Answer to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

BINARY, JSON = "application/octet-stream", "application/json"
AGAIN = {"Retry-After": "1"}
"""Of an answer to somebody who may have better luck."""


class Asked(NamedTuple):
    """``feeds`` by input name, as ``Session.predict`` takes them: views of the request where it is binary.

    ``wanted``: the outputs, in the order of the answer, each with whether it is to be binary. ``by_sample``: TensorFlow
    Serving's "instances". ``timeout_us`` 0 is none.
    """

    feeds: dict[str, Array]
    wanted: dict[str, bool]
    id: str = ""
    priority: int = 0
    timeout_us: int = 0
    by_sample: bool = False


class Answer(NamedTuple):
    """JSON, and the binary tensors that follow it."""

    header: bytes
    tensors: tuple[memoryview, ...] = ()

    @property
    def parts(self) -> tuple[bytes | memoryview, ...]:
        return (self.header, *self.tensors)

    @property
    def size(self) -> int:
        return sum(map(len, self.parts))

    @property
    def header_length(self) -> int | None:
        """What Inference-Header-Content-Length says; None where nothing is binary, and there is no such header."""
        return len(self.header) if self.tensors else None


def headers_of(status: int, header_length: int | None) -> dict[str, str]:
    """What HTTP says of an answer; ``header_length`` as Answer has it."""
    again = AGAIN if status == 503 else {}
    if header_length is None:
        return {"Content-Type": JSON, **again}
    return {"Content-Type": BINARY, "Inference-Header-Content-Length": str(header_length), **again}
