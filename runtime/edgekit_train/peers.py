"""Peers: the keys of other devices, by which this one believes their adverts; the first that is seen of each counts.

``trust/peers`` in the device's home has a line for each, ``NAME KIND BLOB``. A device that was set up anew has another
key: who looks after this one removes the old line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable

from edgekit_runtime import durable
from edgekit_runtime.errors import DeviceError
from edgekit_runtime.home import held

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_train.signed_advert import SignedAdvert

MOST = 8 << 20


def file(home: Path) -> Path:
    return home / "trust" / "peers"


def check(home: Path, adverts: Iterable[SignedAdvert]) -> None:
    """That each was signed by the device that it names; keys that are the first of their devices are remembered.

    Raises: DeviceError, OSError.
    """
    path = file(home)
    durable.folder(path.parent)
    with held(path.parent):
        known = _known(path)
        fresh = {each.device: _key(each, known.get(each.device)) for each in adverts}
        if fresh.keys() - known.keys():
            lines = (f"{device} {key}\n" for device, key in sorted({**known, **fresh}.items()))
            durable.write(path, "".join(lines).encode())


def _key(signed: SignedAdvert, known: str | None) -> str:
    if known not in (None, signed.public):
        raise DeviceError(
            f"secure aggregation refused: {signed.device} has another key than this device knows",
            f"where {signed.device} was set up anew: remove its line from trust/peers in this device's home",
        )
    if not signed.fits():
        raise DeviceError(f"secure aggregation refused: {signed.device} has not signed its keys", "start another round")
    return signed.public


def _known(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = durable.read(path, MOST).decode(errors="replace").splitlines()
    return {name: key for name, _, key in (line.partition(" ") for line in lines) if key}
