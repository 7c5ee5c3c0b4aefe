"""Initial: the weights that a trainer of somebody else's begins with: what its own ``init`` gives on a device.

They come from a machine that may lie, as updates do; what is checked is their form and size, and that they are finite.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgekit import device as devices
from edgekit import transports
from edgekit.errors import ConfigError, EdgekitError, RoundError
from edgekit.fanout import reached
from edgekit.federated.rounds import given
from edgekit.federated.rounds.round import Subject
from edgekit.fleet import Device
from edgekit_runtime import fields
from edgekit_train import family as families
from edgekit_train import tensor_file
from edgekit_train.fitting import MOST_INIT
from edgekit_train.update import Weights

HINT = "name weights: --from FILE.safetensors"


@dataclass(frozen=True)
class Initial:
    """The bytes of a safetensors file, and the family of the release that they are for; or why there are none."""

    data: bytes = b""
    family: str = ""
    error: dict[str, str | None] | None = None


def ask(device: Device, app: str, trainer: str, *, accept_new_host_key: bool = False) -> Initial:
    """What the trainer begins with on that device. Nothing is raised for what the device does."""
    options = transports.Options(accept_new_host_key=accept_new_host_key)
    try:
        with reached(device, options) as transport:
            said = devices.train(transport, "init", app, trainer, timeout_s=devices.WORK_S)
        return Initial(base64.b64decode(fields.text(said.get("weights")), validate=True), str(said.get("family")))
    except EdgekitError as error:
        return Initial(error=error.as_dict())
    except ValueError:
        return Initial(error=RoundError(f"{device.name}: says nothing of weights").as_dict())


@dataclass(frozen=True)
class Asking:
    """``devices``: of the round, of whom one after the other is asked until one has an answer that can be used."""

    devices: Sequence[Device]
    pool: Executor
    accept_new_host_key: bool = False

    def weights(self, subject: Subject) -> tuple[Weights, str]:
        """And where they come from, told. Raises: ConfigError where no device has any."""
        work, why = partial(ask, app=subject.app, trainer=subject.trainer), list[str]()
        for device in self.devices:
            found = self.pool.submit(work, device, accept_new_host_key=self.accept_new_host_key).result()
            try:
                return _checked(device.name, found, subject), f"{device.name}'s init"
            except RoundError as error:
                why.append(error.message)
        raise ConfigError(f"where does {subject.trainer!r} start from? {why[0]}", HINT)


def nowhere(subject: Subject) -> tuple[Weights, str]:
    """Where no device is to be asked. Raises: ConfigError."""
    raise ConfigError(f"where does {subject.trainer!r} start from?", HINT)


def parsed(what: str | Path, data: bytes) -> Weights:
    """Of a safetensors file. Raises: ConfigError for what is no file of float32."""
    hint = "give a safetensors file of float32"
    try:
        tensors, _ = tensor_file.parse(data)
    except ValueError as error:
        raise ConfigError(f"{what}: no weights: {error}", hint) from error
    odd = [name for name, array in tensors.items() if array.dtype != np.float32]
    if odd or not tensors:
        raise ConfigError(f"{what}: {odd[0] if odd else 'nothing in it'} is no float32", hint)
    return {name: array.copy() for name, array in tensors.items()}


def _checked(name: str, found: Initial, subject: Subject) -> Weights:
    """Raises: RoundError."""
    if found.error is not None:
        raise RoundError(str(found.error.get("message")))
    if found.family != subject.family:
        asked, serves = families.told(subject.family), families.told(found.family)[:200]
        raise RoundError(f"{name}: the round is of {asked}, live there is {serves}")
    if len(found.data) > MOST_INIT:
        raise RoundError(f"{name}: an init of {len(found.data)} bytes, where at most {MOST_INIT} can be")
    try:
        weights = parsed(f"{name}'s init", found.data)
        given.check(f"{name}'s init", subject.trainer, weights, None)
    except ConfigError as error:
        raise RoundError(error.message) from error
    return weights
