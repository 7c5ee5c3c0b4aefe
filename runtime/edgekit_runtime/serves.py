"""Serves: with what the releases of this device run, told to a host beside what it counted of them.

A window of calls names a release; what that is and what its budget allows only the bundle knows, and with which engine
and threads it runs only the proof that it gave here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit_runtime import releases
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.setting import pinned, tuned

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_runtime.manifest import Manifest
    from edgekit_runtime.releases import Release


def told(home: Path) -> list[dict[str, Any]]:
    """Of each app what is current and what was before it; a release that is damaged is left out."""
    wanted = [(app, pointer) for app in releases.apps(home) for pointer in ("current", "previous")]
    found = [(app, pointer, releases.pointed(home, app, pointer)) for app, pointer in wanted]
    known: dict[str, dict[str, Any]] = {}
    for app, pointer, digest in found:
        if digest and digest not in known:
            try:
                release = releases.find(home, app, digest)
                known[digest] = {"app": app, "release": digest, "live": pointer == "current", **_facts(release)}
            except (EdgekitError, OSError):
                continue
    return list(known.values())


def _facts(release: Release) -> dict[str, Any]:
    """``engine`` and ``threads`` as proven here; ``host_p50_ms`` and ``base_p50_ms``: see ``_host_times_ms``."""
    manifest = release.bundle.manifest
    engine, threads = _way(release)
    return {
        "target": manifest.target,
        "source": _source(manifest),
        "format": manifest.format,
        "precision": manifest.precision,
        "engine": engine,
        "threads": threads,
        "sequence": manifest.sequence,
        **_host_times_ms(manifest),
        "max_p95_ms": _number(manifest.budget.get("max_p95_ms")),
    }


def _way(release: Release) -> tuple[str, int]:
    """The engine that its proof ran on, with its threads."""
    proof, declared = release.state.proof, release.bundle.manifest.engines
    setting, found = pinned(proof), tuned(proof)
    if setting:
        return setting.need.name, setting.need.threads
    name = str(proof.get("engine") or declared[0].name).partition(" ")[0]
    need = next((each for each in (found.needs(declared) if found else declared) if each.name == name), declared[0])
    return name, need.threads


def _source(manifest: Manifest) -> str:
    source = manifest.provenance.get("source")
    return str(source.get("digest") or "") if isinstance(source, dict) else ""


def _host_times_ms(manifest: Manifest) -> dict[str, float | None]:
    """What the build measured of the release, and of the float model that it was held against."""
    told = manifest.verdict.get("candidates")
    candidates = [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []
    chosen = [each for each in candidates if each.get("chosen") is True]
    return {"host_p50_ms": _p50_ms(chosen), "base_p50_ms": _p50_ms(candidates)}


def _p50_ms(candidates: list[dict[str, Any]]) -> float | None:
    latency = candidates[0].get("latency_ms") if candidates else None
    return _number(latency.get("p50")) if isinstance(latency, dict) else None


def _number(value: object) -> float | None:
    """Above zero, or None."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else None


__all__ = ["told"]
