"""Family: what releases for several targets have in common, so that a head learned behind one fits behind the others.

That is the float model that they were built from, and how inputs are prepared for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit_runtime.manifest import Manifest

SHOWN = 19
"""So many characters of a digest tell it from others."""


def named(model: str, preprocess: str) -> str:
    """Of both digests, each ``sha256:`` and 64 hex digits."""
    return f"{model}+{preprocess}"


def of(manifest: Manifest, digest: str) -> str:
    """As the manifest of a release has both; one that does not tell is a family of its own, by its ``digest``."""
    provenance = manifest.provenance
    source, preprocess = provenance.get("source"), provenance.get("preprocess")
    model = source.get("digest") if isinstance(source, dict) else None
    return named(model, preprocess) if isinstance(model, str) and isinstance(preprocess, str) else digest


def model(family: str) -> str | None:
    """The digest of the float model, where the manifest has told it."""
    found, plus, _ = family.partition("+")
    return found if plus else None


def brief(family: str) -> str:
    """In two words."""
    return f"model {family[:SHOWN]}"


def told(family: str) -> str:
    """The same where two may differ in how inputs are prepared, too."""
    _, plus, preprocess = family.partition("+")
    return brief(family) + (f", inputs {preprocess[:SHOWN]}" if plus else "")
