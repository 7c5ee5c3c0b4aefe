"""An engine of another distribution, as any process finds it that has its folder on PYTHONPATH."""

from __future__ import annotations

from pathlib import Path


def engine(place: Path, name: str, source: str) -> Path:
    """The folder, with a module that has ``load``, and what says so to the runtime."""
    facts = place / f"{name}-1.dist-info"
    facts.mkdir(parents=True)
    (place / f"{name}.py").write_text(source)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(f"[edgekit_runtime.engines]\n{name} = {name}:load\n")
    return place
