# mypy: disable-error-code="import-not-found"
"""MLServer without workers, since there is one core: MODEL PORT."""

import asyncio
import sys

import mlserver
from mlserver.settings import ModelParameters, ModelSettings, Settings

from benchmarks.serve.peers.mlserver_net import Net


async def main() -> None:
    port = int(sys.argv[2])
    quiet = {"version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING"}}
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=port,
        grpc_port=port + 1,
        metrics_endpoint=None,
        parallel_workers=0,
        load_models_at_startup=False,
        logging_settings=quiet,
    )
    model = ModelSettings(name="net", implementation=Net, parameters=ModelParameters(uri=sys.argv[1]))
    await mlserver.MLServer(settings).start([model])


asyncio.run(main())
