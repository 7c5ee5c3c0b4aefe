# mypy: disable-error-code="import-not-found"
"""A runtime of MLServer: by V2 with the tensor in base64, the most compact that it takes, and by a route of its own."""

import numpy as np
from fastapi import Request, Response
from mlserver import MLModel
from mlserver.codecs import Base64Codec
from mlserver.handlers import custom_handler
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.serve.peers.engine import SHAPE, load, of_bytes


class Net(MLModel):  # type: ignore[misc]
    async def load(self) -> bool:
        model = self.settings.parameters.uri
        self.run, self.answer = load(model), of_bytes(model)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        body = Base64Codec.decode_input(payload.inputs[0])[0]
        y = self.run(np.frombuffer(body, np.float32).reshape(SHAPE))
        output = ResponseOutput(name="y", shape=list(y.shape), datatype="FP32", data=y.ravel().tolist())
        return InferenceResponse(model_name=self.name, outputs=[output])

    @custom_handler(rest_path="/infer")  # type: ignore[untyped-decorator]
    async def raw(self, request: Request) -> Response:
        return Response(self.answer(await request.body()), media_type="application/octet-stream")
