# mypy: disable-error-code="import-not-found"
"""FastAPI under uvicorn with uvloop and httptools: MODEL PORT.

The model runs in the event loop: with one core, threads only add to it.
"""

import sys

import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.serve.peers.engine import of_bytes

answer, app = of_bytes(sys.argv[1]), FastAPI()


@app.post("/infer")  # type: ignore[untyped-decorator]
async def infer(request: Request) -> Response:
    return Response(answer(await request.body()), media_type="application/octet-stream")


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=False, log_level="warning")
