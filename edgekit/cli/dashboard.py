"""``edgekit dashboard``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from edgekit.cli.output import json_option, print_json

LISTEN = "127.0.0.1:8321"
GOODBYE_S = 3


@click.command()
@click.option(
    "--listen", metavar="[HOST:]PORT", default=LISTEN, show_default=True, help="A PORT alone is on 127.0.0.1."
)
@click.option("--token-file", metavar="FILE", default="", help="What requests must bear; needed for others.")
@json_option
def dashboard(listen: str, token_file: str, as_json: bool) -> None:
    """Show the fleet on a web page that stays up to date.

    Devices, latency, alerts, rollouts and rounds, until Ctrl-C. It shows what is in the store of 'edgekit report' and
    changes nothing; sites and tags come from fleet.toml. Only this machine can reach it: ssh -L
    8321:127.0.0.1:8321 HOST brings it to another one.

    \b
    Examples:
      edgekit dashboard
      edgekit dashboard --listen 0.0.0.0:8321 --token-file token
    """
    from edgekit import fleet
    from edgekit.errors import ExtraNotInstalled

    try:
        from edgekit import web
        from edgekit.dashboard.app import app
        from edgekit.page.render import environment
    except ImportError as error:
        raise ExtraNotInstalled(f"the dashboard needs {error.name}", "pip install 'edgekit-sdk[web]'") from error
    from edgekit.store import Store
    from edgekit_server.serve import place, token

    environment()
    where = place(listen, "")
    bears = token(token_file, where)
    with Store(os.environ.get("EDGEKIT_STORE")) as store:
        made = app(store, lambda: fleet.load(Path.cwd()), bears)
        listener = web.listen(where.host, where.port)
        url = str(replace(where, port=listener.getsockname()[1]))
        web.serve(web.config(made, GOODBYE_S), listener, lambda: (_tell_json if as_json else _tell)(url))


def _tell(url: str) -> None:
    click.echo(f"dashboard at {url}; Ctrl-C ends it", err=True)


def _tell_json(url: str) -> None:
    print_json({"url": url})
