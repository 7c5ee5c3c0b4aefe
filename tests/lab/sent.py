"""A bundle that is sent to a device, and not proven there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgekit import device, sending
from edgekit.device import Conversation
from edgekit.push import Parcel
from edgekit.transports import Transport
from edgekit_runtime.bundle import blob_path


def send(parcel: Parcel, link: Transport, tell: Callable[[str], None] = lambda line: None) -> int:
    """How many bytes went over."""
    with met(parcel, link) as there:
        order = {"digest": parcel.bundle.digest, "signature": parcel.signature}
        return sending.send(sending.Load(parcel.bundle.root, parcel.blobs, order), there, tell).size


def install_unchecked(parcel: Parcel, link: Transport) -> None:
    """As files, with whatever they hold: no host has looked at them, and no frame."""
    with met(parcel, link) as there:
        answer = there.ask({"blobs": [blob.as_dict() for blob in parcel.blobs]})
        [place] = link.run(["sh", "-c", 'echo "$EDGEKIT_HOME"/incoming/*']).stdout.decode().split()
        for digest in answer["missing"]:
            source = blob_path(parcel.bundle.root, digest)
            link.put(source, f"{place}/{source.name}")
        there.ask({"digest": parcel.bundle.digest, "signature": parcel.signature})


@contextmanager
def met(parcel: Parcel, link: Transport) -> Iterator[Conversation]:
    """The device, which has told what it is."""
    with device.conversing(link, "push", parcel.bundle.manifest.app) as there:
        there.hear()
        yield there
