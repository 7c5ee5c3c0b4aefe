"""Enrolment: a device is given a token, and told where to deliver, over the way to it that exists at this moment."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from edgekit import device as devices
from edgekit.collect import tokens
from edgekit.collect.certificate import Known
from edgekit.collect.tokens import Tokens
from edgekit.errors import DeviceError, TransportTimeout
from edgekit.transports import Transport

PORT = 8443
"""Where 'edgekit collect' listens, when it is not told otherwise."""
WHENCE = 'echo "${SSH_CONNECTION:-127.0.0.1}"'


@dataclass(frozen=True)
class Enrolled:
    """Where a device delivers to; ``reached``: it has been there already, else ``note`` says why not."""

    device: str
    url: str
    reached: bool
    note: str


def enrol(transport: Transport, device: str, kept: Tokens, url: str | None, trusted: Known) -> Enrolled:
    """Without a ``url`` it is to deliver here, to where it sees this host come from; it tries at once.

    An older token of the device is worth nothing any more. Raises: DeviceError, TransportError, EdgekitError.
    """
    token = tokens.fresh(device)
    place = url or f"https://{_whence(transport)}:{PORT}"
    letter = {"url": place, "token": token.text, "certificate": trusted.pem, "pinned": trusted.pinned}
    devices.call(transport, "enrol", stdin=letter)
    kept.keep(token)
    try:
        devices.call(transport, "deliver", "--once")
    except (DeviceError, TransportTimeout) as error:
        return Enrolled(device, place, reached=False, note=f"{error}")
    return Enrolled(device, place, reached=True, note="")


def _whence(transport: Transport) -> str:
    """The address that this host has for the device. Raises: DeviceError."""
    said = transport.run(["sh", "-c", WHENCE]).check().stdout.decode(errors="replace").split()
    try:
        address = ip_address(said[0] if said else "")
    except ValueError as error:
        raise DeviceError("the device does not tell where this host is", "say it with --url") from error
    return f"[{address}]" if address.version == 6 else str(address)
