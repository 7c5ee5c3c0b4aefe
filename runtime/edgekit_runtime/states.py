"""States: what became of a release, in ``state.json`` in its folder: installed → proven → trial → good, or bad."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgekit_runtime import durable, fields

if TYPE_CHECKING:
    from pathlib import Path

FILE = "state.json"
SERVED = ("trial", "good")
"""The states in which a release may be current."""


@dataclass(frozen=True)
class State:
    """``code`` and ``reason``: why it is bad. ``proof``: what its golden vectors gave here, and with which setting."""

    name: str
    reason: str = ""
    installed_at: int = 0
    signer: str = ""
    proof: dict[str, Any] = field(default_factory=dict)
    code: str = ""


def write(folder: Path, state: State, name: str, **changes: Any) -> State:
    """Write down that the release in a folder is in another state now; the reason of the one before is gone."""
    state = replace(state, **{"reason": "", "code": "", **changes, "name": name})
    durable.write(folder / FILE, json.dumps(asdict(state), indent=1, allow_nan=False).encode())
    return state


def read(folder: Path) -> State:
    """The state of the release in a folder; one that cannot be read has proven nothing."""
    try:
        document = {"code": "", **fields.load((folder / FILE).read_bytes())}
        texts = {key: fields.text(document[key]) for key in ("name", "reason", "signer", "code")}
        return State(**{**document, **texts, "proof": fields.table(document["proof"])})
    except (OSError, KeyError, ValueError, TypeError):
        return State("installed", "its state could not be read")
