"""Manifest: what a bundle says of itself, as canonical JSON (the config blob of its OCI image).

The law: ``parse(dump(m)) == m``, and ``dump`` gives one byte sequence for one manifest (keys sorted, no spaces,
UTF-8, no NaN), so that a digest of it means something.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from edgekit_runtime import fields
from edgekit_runtime.errors import BundleError
from edgekit_runtime.home import NAME
from edgekit_runtime.interface import Interface

SCHEMA_VERSION = 1
MESSAGE = 300


@dataclass(frozen=True)
class EngineNeed:
    """An engine that can serve the model: its name here, its version range (PEP 440), providers in order, threads."""

    name: str
    version: str = ""
    providers: tuple[str, ...] = ()
    threads: int = 1


@dataclass(frozen=True)
class ProofLimits:
    """What the golden vectors must show on a device against what the same artifact gave on the host."""

    vectors: int
    max_abs_error: float
    min_agreement: float


@dataclass(frozen=True)
class Manifest:
    """A bundle's config. ``sequence`` rises with every build; the engines stand in order of preference.

    ``expires``: when it is no longer to be installed or switched to, in seconds since 1970; None for never.
    """

    app: str
    version: str
    sequence: int
    target: str
    arch: str
    format: str
    precision: str
    engines: tuple[EngineNeed, ...]
    interface: Interface
    proof: ProofLimits
    budget: dict[str, Any] = field(default_factory=dict)
    verdict: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    expires: int | None = None


def canonical(value: object) -> bytes:
    """One byte sequence for one JSON value. Raises: ValueError for NaN and infinities."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def dump(manifest: Manifest) -> bytes:
    document = {"schema_version": SCHEMA_VERSION, **asdict(manifest), "interface": manifest.interface.as_dict()}
    if (
        manifest.expires is None
    ):  # as it always was: older runtimes know no such key, and refuse the bundles that have it
        del document["expires"]
    return canonical(document)


def parse(data: bytes) -> Manifest:
    """Raises: BundleError when the bytes are no manifest that this runtime understands."""
    try:
        document = fields.load(data)
        if document.pop("schema_version") != SCHEMA_VERSION:
            raise BundleError("the bundle was made for a newer runtime", "run 'edgekit device setup' for this device")
        return _manifest(document)
    except (ValueError, TypeError, KeyError) as error:
        why = "".join(letter if letter.isprintable() else " " for letter in str(error)[:MESSAGE])  # it has names in it
        raise BundleError(f"the bundle's manifest cannot be read: {type(error).__name__}: {why}") from error


def _manifest(document: dict[str, Any]) -> Manifest:
    for key in ("app", "version", "target", "arch", "format", "precision"):
        fields.text(document[key])
    for key in ("budget", "verdict", "provenance"):
        fields.table(document[key])
    for key in ("app", "format"):  # names of files
        if not NAME.fullmatch(document[key]):
            raise ValueError(f"{key} {document[key][:80]!r}")
    document["sequence"] = fields.count(document["sequence"])
    if "expires" in document:
        document["expires"] = fields.count(document["expires"])
    document["engines"] = tuple(_engine(fields.table(need)) for need in fields.items(document["engines"]))
    document["interface"] = Interface.of(fields.table(document["interface"]))
    document["proof"] = _proof(fields.table(document["proof"]))
    if not document["engines"]:
        raise ValueError("no engine")
    return Manifest(**document)


def _engine(need: dict[str, Any]) -> EngineNeed:
    providers = tuple(map(fields.text, fields.items(need["providers"])))
    texts = {key: fields.text(need[key]) for key in ("name", "version")}
    return EngineNeed(**{**need, **texts, "providers": providers, "threads": fields.count(need["threads"], 1, 1024)})


def _proof(limits: dict[str, Any]) -> ProofLimits:
    numbers = {key: fields.number(limits[key]) for key in ("max_abs_error", "min_agreement")}
    return ProofLimits(**{**limits, **numbers, "vectors": fields.count(limits["vectors"])})
