"""Constants: the numbers within a TFLite file that is unpacked, to be read, and to be written for one operator."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.quantization.bias import Array

NUMPY = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT32: np.int32}


@dataclass(frozen=True)
class Constants:
    """Those of one of a document's graphs."""

    document: Any
    graph: Any

    def read(self, operator: Any, place: int) -> Array | None:
        """An operator's input, of float32 or int32; None for one that is computed, left out or of another type."""
        index = operator.inputs[place] if len(operator.inputs) > place else -1
        tensor = self.graph.tensors[index]
        data, kind = self.document.buffers[tensor.buffer].data, NUMPY.get(tensor.type)
        if index < 0 or kind is None or data is None or not len(data):
            return None
        return np.frombuffer(bytes(data), kind).reshape(tensor.shape)

    def write(self, operator: Any, place: int, values: Array, suffix: str) -> None:
        """Give an operator other float32 numbers for those that it has, and a tensor of its own where others share it.

        ``suffix`` goes to the name of that.
        """
        data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
        old = self.graph.tensors[operator.inputs[place]]
        if self._is_alone(operator.inputs[place]):
            self.document.buffers[old.buffer].data = data
            return
        buffer, tensor = schema.BufferT(), copy(old)
        buffer.data, tensor.buffer = data, len(self.document.buffers)
        tensor.name = old.name + f"{suffix}{len(self.graph.tensors)}".encode()
        self.document.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        inputs = list(operator.inputs)
        inputs[place] = len(self.graph.tensors) - 1
        operator.inputs = inputs

    def readers(self, index: int) -> int:
        """How often operators take a tensor: a converter makes one of constants that are alike."""
        return sum(list(each.inputs).count(index) for each in self.graph.operators if each.inputs is not None)

    def _is_alone(self, index: int) -> bool:
        """Whether one operator alone reads a tensor, and the tensor alone its buffer."""
        tensors = (tensor for graph in self.document.subgraphs for tensor in graph.tensors)
        return (
            self.readers(index) == 1
            and sum(tensor.buffer == self.graph.tensors[index].buffer for tensor in tensors) == 1
        )
