# mypy: disable-error-code="import-not-found"
"""KServe's SDK, with the binary tensors of V2: MODEL PORT."""

import logging
import sys

import kserve

from benchmarks.serve.peers.engine import SHAPE, load


class Net(kserve.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("net")
        self.run, self.ready = load(sys.argv[1]), True

    def predict(
        self, payload: kserve.InferRequest, headers: object = None, response_headers: object = None
    ) -> kserve.InferResponse:
        y = self.run(payload.inputs[0].as_numpy().reshape(SHAPE))
        output = kserve.InferOutput("y", list(y.shape), "FP32")
        output.set_data_from_numpy(y, binary_data=True)
        return kserve.InferResponse(payload.id or "", self.name, [output], use_binary_outputs=True)


if __name__ == "__main__":
    server = kserve.ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, enable_latency_logging=False)
    for name in ("kserve.trace", "uvicorn.access"):  # two lines a request otherwise
        logging.getLogger(name).setLevel(logging.WARNING)
    server.start([Net()])
