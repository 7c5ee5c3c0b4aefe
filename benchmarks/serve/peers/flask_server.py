# mypy: disable-error-code="import-not-found, import-untyped"
"""Flask under waitress: MODEL PORT."""

import sys

import waitress
from flask import Flask, Response, request

from benchmarks.serve.peers.engine import of_bytes

answer, app = of_bytes(sys.argv[1]), Flask(__name__)


@app.post("/infer")  # type: ignore[untyped-decorator]
def infer() -> Response:
    return Response(answer(request.get_data(cache=False)), mimetype="application/octet-stream")


waitress.serve(app, host="127.0.0.1", port=int(sys.argv[2]))
