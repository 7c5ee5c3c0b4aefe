# mypy: disable-error-code="import-not-found"
"""LitServe with its ZeroMQ queue: MODEL PORT."""

import sys
from typing import Annotated, Any

import litserve
from fastapi import Body, Response

from benchmarks.serve.peers.engine import of_bytes

Bytes = Annotated[bytes, Body(media_type="application/octet-stream")]


class Net(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: Any) -> None:
        self.answer = of_bytes(sys.argv[1])

    def decode_request(self, request: Bytes) -> bytes:
        return request

    def predict(self, x: bytes) -> bytes:
        return self.answer(x)

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    server = litserve.LitServer(Net(), accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning", access_log=False
    )
