"""Contents: exactly what left a device in a round, read out of the file that came."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekit.errors import ConfigError, RoundError
from edgekit.federated.rounds import signatures
from edgekit.federated.rounds.key_book import KeyBook
from edgekit.federated.rounds.round import REFUSED, Facts, Part, Round
from edgekit.federated.rounds.shelf import Shelf
from edgekit_train import tensor_file


@dataclass(frozen=True)
class Tensor:
    """As it lies in the file: packed, where it is."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Contents:
    """``said``: all texts of the file. ``signer``: the fingerprint of the device's key that signed it.

    "unknown" where the device has another one by now, or the signature is not there any more.
    """

    device: str
    state: str
    facts: Facts
    tensors: tuple[Tensor, ...]
    said: dict[str, str]
    signer: str

    def as_dict(self) -> dict[str, Any]:
        told = asdict(self)
        facts = told.pop("facts")
        tensors = [{**each, "shape": list(each["shape"])} for each in told["tensors"]]
        return {**told, **facts, "tensors": tensors}


def chosen(round_: Round, device: str | None) -> list[Part]:
    """The devices whose updates are here, or the one that is named. Raises: ConfigError."""
    here = [part for part in round_.parts if part.facts and device in (None, part.device)]
    if not here:
        why = f"round {round_.number} has no update of {device or 'any device'}{_refused(round_, device)}"
        raise ConfigError(why, f"edgekit round show {round_.number}")
    return here


def _refused(round_: Round, device: str | None) -> str:
    """Why there is none, where one of the device came: of what is not sound nothing is kept but that."""
    errors = [part.error or {} for part in round_.of(REFUSED) if part.device == device]
    told = [str(error.get("message")).removeprefix(f"{device}: ") for error in errors]
    return "".join(f": what came was refused, and is not kept: {each}" for each in told)


def of(round_: Round, part: Part, keys: KeyBook) -> Contents:
    """Raises: RoundError for an update that is not the one that came."""
    assert part.facts
    if not Shelf(round_.key).has_updates:
        raise RoundError(
            f"the updates of round {round_.number} are not kept any more", "inspect one of the last rounds"
        )
    data = Shelf(round_.key).update(part.device, part.facts.digest)
    try:
        arrays, said = tensor_file.parse(data)
    except ValueError as error:
        raise RoundError(f"{part.device}: the update cannot be read: {error}") from error
    tensors = tuple(Tensor(name, each.dtype.name, each.shape, each.nbytes) for name, each in sorted(arrays.items()))
    return Contents(part.device, part.state, part.facts, tensors, said, _signer(round_, part.device, part.facts, keys))


def _signer(round_: Round, device: str, facts: Facts, keys: KeyBook) -> str:
    public = keys.known(device)
    if public is None:
        return "unknown"
    try:
        signatures.check(device, facts.digest, Shelf(round_.key).signature(device), public)
    except RoundError:
        return "unknown"
    return signatures.fingerprint(public)
