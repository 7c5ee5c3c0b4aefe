"""Address: where others than its own device reach a server, by the command that starts it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from urllib.parse import urlsplit

from edgekit.fleet import Device
from edgekit.transports import ssh_config

EVERYWHERE = ("0.0.0.0", "::")
HERE = "127.0.0.1"


def of_server(device: Device, words: Sequence[str]) -> str:
    """``HOST:PORT``; "" where nobody else reaches it. ``words``: those of ``edgekit-runtime serve``.

    A server that listens at all of its addresses is reached by the name that SSH reaches the device by; so is one of a
    device that is this machine itself, at whichever it listens. Raises: ConfigError, InvalidInput.
    """
    from edgekit_server.serve import place

    listen, path = _told(words)
    where, local = place(listen, path), urlsplit(device.uri).scheme == "local"
    if where.path or (where.is_private and not local):
        return ""
    host = (HERE if local else _name(device.uri)) if where.host in EVERYWHERE else where.host
    return f"{f'[{host}]' if ':' in host else host}:{where.port}"


def _told(words: Sequence[str]) -> tuple[str, str]:
    """Its --listen and --socket."""
    from edgekit_server.serve import PORT

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--listen", nargs="?", default=str(PORT), const="")
    parser.add_argument("--socket", nargs="?", default="", const="")
    asked, _ = parser.parse_known_args(list(words))
    return asked.listen, asked.socket


def _name(uri: str) -> str:
    """What ~/.ssh/config calls the host of a device."""
    address = ssh_config.from_uri(uri)
    return ssh_config.parse(ssh_config.ask_openssh(address) or "", address.host).hostname
