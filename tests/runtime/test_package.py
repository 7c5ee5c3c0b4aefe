"""What the runtime weighs: nothing but the standard library until a model is loaded, and one small wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import edgekit_runtime

RUNTIME = Path(__file__).parents[2] / "runtime"
LOADED = "import sys; before = set(sys.modules); {}; print(*(set(sys.modules) - before))"
MODULES = ("bundle", "engines", "interface", "manifest", "recorder", "releases", "session", "spool", "verify")


def loaded_by(statement: str) -> set[str]:
    """The packages that a statement brings into a fresh interpreter."""
    command = [sys.executable, "-I", "-c", LOADED.format(statement)]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize(
    "statement",
    [
        "import edgekit_runtime",
        "import edgekit_runtime.__main__",
        f"from edgekit_runtime import {', '.join(MODULES)}",
    ],
)
def test_importing_it_loads_the_standard_library_only(statement: str) -> None:
    loaded = loaded_by(statement)
    assert "edgekit_runtime" in loaded
    assert loaded - {"edgekit_runtime"} <= set(sys.stdlib_module_names)


def test_importing_it_alone_loads_next_to_nothing() -> None:
    loaded = loaded_by("import edgekit_runtime")
    assert not loaded & {"dataclasses", "json", "pathlib", "subprocess", "hashlib", "logging", "asyncio"}
    assert len(loaded) < 15


def test_the_wheel_is_small_and_holds_the_runtime_only(wheel: Path) -> None:
    assert wheel.name == f"edgekit_runtime-{edgekit_runtime.__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < 120_000
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {str(path.relative_to(RUNTIME)) for path in (RUNTIME / "edgekit_runtime").rglob("*.py")}
    info = f"edgekit_runtime-{edgekit_runtime.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == {*sources, "edgekit_runtime/py.typed"}


def test_the_wheel_needs_numpy_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (place,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        (scripts,) = [name for name in archive.namelist() if name.endswith("/entry_points.txt")]
        metadata, entries = message_from_bytes(archive.read(place)), archive.read(scripts).decode()
    assert [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line] == ["numpy"]
    assert metadata["Requires-Python"] == ">=3.8"
    assert "edgekit-runtime=edgekit_runtime.__main__:main" in entries
    assert entries.count("edgekit_runtime.engines.") == 3
