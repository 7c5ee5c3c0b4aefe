# mypy: disable-error-code="import-not-found"
"""A model of Triton's Python backend; ``engine.py`` lies beside it, and its repository names the file of the net."""

import json
from typing import Any

import triton_python_backend_utils as triton
from engine import load


class TritonPythonModel:
    def initialize(self, told: dict[str, str]) -> None:
        self.run = load(json.loads(told["model_config"])["parameters"]["net"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return [triton.InferenceResponse([triton.Tensor("y", self.run(_x(request)))]) for request in requests]


def _x(request: Any) -> Any:
    return triton.get_input_tensor_by_name(request, "x").as_numpy()
