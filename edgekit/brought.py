"""Brought: what goes into a device's environment beside the runtime and its engine, where it is wanted or there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

ALWAYS = ("edgekit_runtime", "edgekit_postprocess", "edgekit_watch")
GRPC = ("grpcio", "protobuf>=4.22")
"""The extra of the server's wheel."""
MQTT = ("paho-mqtt>=2.0",)
"""That of the courier's; it is small, and so always brought along."""
MASKS = ("cryptography>=42",)
"""That of what learns, for secure sums: a device without it would be missing where all are asked."""
MASKED = ("x86_64", "aarch64")
"""Processors, as uname prints them, that there are wheels of all of that for: ``cffi`` has none for a 32-bit ARM."""


@dataclass(frozen=True)
class Brought:
    """``server``: what serves over HTTP; ``grpc``: that with gRPC; ``courier``: what delivers what is measured;
    ``train``: what learns there; ``masks``: what that needs for secure sums, too.
    """

    server: bool = False
    grpc: bool = False
    courier: bool = False
    train: bool = False
    masks: bool = True

    def beside(self, there: Mapping[str, str | None]) -> Brought:
        """The same, and what a device has: its packages by a probe."""
        has = {name for name, version in there.items() if version}
        served = "edgekit-server" in has
        return Brought(
            server=self.server or self.grpc or served,
            grpc=self.grpc or (served and "grpcio" in has),
            courier=self.courier or "edgekit-courier" in has,
            train=self.train or "edgekit-train" in has,
            masks=self.masks,
        )

    def on(self, arch: str) -> Brought:
        """The same, as far as there are wheels for a processor."""
        return replace(self, masks=self.masks and arch in MASKED)

    @property
    def own(self) -> tuple[str, ...]:
        """Our packages, for each a wheel."""
        wanted = {"edgekit_server": self.server, "edgekit_courier": self.courier, "edgekit_train": self.train}
        return (*ALWAYS, *(package for package, is_wanted in wanted.items() if is_wanted))

    @property
    def requirements(self) -> tuple[str, ...]:
        """What they ask for beside numpy, as pip takes it."""
        wanted = {GRPC: self.grpc, MQTT: self.courier, MASKS: self.train and self.masks}
        return tuple(line for lines, is_wanted in wanted.items() if is_wanted for line in lines)
