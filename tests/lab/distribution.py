"""Other distributions, as any process finds them that has their folder on PYTHONPATH: with an engine, or a trainer."""

from __future__ import annotations

from pathlib import Path


def engine(place: Path, name: str, source: str) -> Path:
    """The folder, with a module that has ``load``, and what says so to the runtime."""
    return _installed(place, name, source, "edgekit_runtime.engines", "load")


def trainer(place: Path, name: str, source: str) -> Path:
    """The folder, with a module that has ``kind``, and what says so to the runtime."""
    return _installed(place, name, source, "edgekit_train.trainers", "kind")


def _installed(place: Path, name: str, source: str, group: str, has: str) -> Path:
    facts = place / f"{name}-1.dist-info"
    facts.mkdir(parents=True)
    (place / f"{name}.py").write_text(source)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (facts / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}:{has}\n")
    return place
