"""Serving: a bundle's model in the engine that is to serve it, and whether that is degraded: less than is demanded.

That is the first of the engine's providers, where it has any, for at least half of the nodes; the CPU keeps those of
shapes in nearly every model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Tuple

from edgekit_runtime import blackbox, engines
from edgekit_runtime import bundle as bundles
from edgekit_runtime.engines import Engine, EngineOptions
from edgekit_runtime.home import compiled
from edgekit_runtime.setting import Setting, Tuned, pinned, tuned

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_runtime.bundle import Bundle
    from edgekit_runtime.manifest import EngineNeed
    from edgekit_runtime.releases import Release

Loaded = Tuple[Engine, str]
"""An engine, and why it is degraded; "" when it is not."""
LEAST_SHARE = 0.5
DEGRADED, RESTORED = "degraded", "restored"


def declared(bundle: Bundle) -> Loaded:
    """By the manifest, as far as that starts. Raises: BundleError, EngineError."""
    engine, trouble = engines.load_if_need_be(model(bundle), *asked(bundle))
    return engine, trouble or below(bundle, engine, None)


def proven(home: Path, release: Release) -> Loaded:
    """As it was proven, as far as that starts; told where it is less. Raises: BundleError, EngineError."""
    engine, why = untold(home, release)
    _tell(home, release, why)
    return engine, why


def untold(home: Path, release: Release) -> Loaded:
    """The same, of which nothing is written down. Raises: BundleError, EngineError."""
    proof, bundle = release.state.proof, release.bundle
    how = asked(bundle, pinned(proof) or tuned(proof), cache(home, bundle))
    engine, trouble = engines.load_if_need_be(model(bundle), *how)
    return engine, trouble or since(proof, engine)


def asked(
    bundle: Bundle, way: Setting | Tuned | None = None, cache: Path | None = None
) -> tuple[list[EngineNeed], EngineOptions]:
    """Of engines, in this way or as declared."""
    needs, how = list(bundle.manifest.engines), EngineOptions(precision=bundle.manifest.precision, cache=cache)
    if isinstance(way, Setting):
        return [way.need], replace(how, plain=way.plain)
    return (way.needs(needs), replace(how, cpus=way.cpus)) if way else (needs, how)


def model(bundle: Bundle) -> bytes:
    """Verified. Raises: BundleError."""
    return bundle.read(bundle.layer(bundles.MODEL_TYPE))


def cache(home: Path, bundle: Bundle) -> Path:
    """For what engines make of the model."""
    return compiled(home, bundle.layer(bundles.MODEL_TYPE).digest)


def below(bundle: Bundle, engine: Engine, share: float | None) -> str:
    """Why an engine that runs this share of the nodes is less than demanded, or ""."""
    wanted = next((need.providers[:1] for need in bundle.manifest.engines if need.name == engine.name), ())
    if not wanted or (engine.provider == wanted[0] and (share is None or share >= LEAST_SHARE)):
        return ""
    if engine.provider != wanted[0]:
        return f"{engine.provider} runs it, {wanted[0]} did not start"
    return f"{wanted[0]} runs {share:.0%} of the model's nodes"


def since(proof: dict[str, Any], engine: Engine) -> str:
    """Why an engine is another than in the proof, or was degraded there; "" for neither."""
    was = f"{str(proof.get('engine')).partition(' ')[0]} {proof.get('provider')}"
    now = f"{engine.name} {engine.provider}"
    if "share" in proof and was != now:  # without one, an older runtime wrote it, and "cpu" for XNNPACK
        return f"{now} runs it, proven was {was}"
    return str(proof.get("degraded") or "")


def told(home: Path, release: Release) -> str:
    """Why a release is degraded, by its last start or its proof; or ""."""
    for event in reversed(blackbox.read(home, release.bundle.manifest.app)):
        if event.release == release.digest and event.what in (DEGRADED, RESTORED):
            return event.reason
    return str(release.state.proof.get("degraded") or "")


def _tell(home: Path, release: Release, why: str) -> None:
    """A warning; in the black box what is news."""
    app = release.bundle.manifest.app
    if why:
        import logging

        logging.getLogger("edgekit_runtime").warning("%s is degraded: %s", app, why)
    if why != told(home, release):
        blackbox.note(home, app, blackbox.event(DEGRADED if why else RESTORED, release.digest, reason=why))
