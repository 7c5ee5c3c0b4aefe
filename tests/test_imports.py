"""What is imported when, and what is packed: each heavy library has one home."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = (
    "numpy",
    "paramiko",
    "onnx",
    "onnxruntime",
    "ai_edge_litert",
    "ai_edge_quantizer",
    "tensorflow",
    "keras",
    "PIL",
    "sqlalchemy",
    "msgspec",
    "rich",
)


def loaded(code: str) -> set[str]:
    """The top-level modules that are there after some code has run, in a process of its own."""
    show = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def run(words: str) -> str:
    start = f"import sys; sys.argv = ['edgekit', *{words.split()}]\nfrom edgekit.cli import main"
    return f"{start}\ntry: main()\nexcept SystemExit: pass"


@pytest.mark.parametrize("words", ["build --help", "bundle show --help", "init --help"])
def test_help_of_a_command_loads_no_engine_and_no_framework(words: str) -> None:
    allowed = {"numpy", "PIL", "msgspec", "onnx", "rich"}
    assert loaded(run(words)) & (set(HEAVY) - allowed) == set()


def test_a_push_to_one_device_needs_no_database_and_no_cluster() -> None:
    assert (
        loaded("import edgekit.cli.push, edgekit.errand, edgekit.cli.connect") & {"sqlalchemy", "distributed"} == set()
    )


def test_transports_need_no_paramiko_until_there_is_a_device_behind_ssh() -> None:
    hidden = "import sys; sys.modules['paramiko'] = None; from edgekit import transports; transports"
    assert "edgekit" in loaded(f"{hidden}.connect('local:/tmp')")


def test_reading_and_building_an_onnx_model_needs_no_framework_of_training() -> None:
    code = "import edgekit.build, edgekit.bundle; from edgekit.passes import all_passes; all_passes()"
    assert loaded(code) & {"tensorflow", "keras", "tf_keras", "torch", "paramiko", "click", "sqlalchemy"} == set()


def test_the_contracts_between_the_layers_hold() -> None:
    command = shutil.which("lint-imports", path=sysconfig.get_path("scripts"))
    if command is None:
        pytest.skip("needs import-linter")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


def test_every_file_that_is_no_python_is_packed() -> None:
    """A wheel has what the package data names, an editable installation the whole folder."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {name: ROOT / settings["package-dir"].get(name, name.replace(".", "/")) for name in settings["packages"]}
    packed = {
        path
        for name, folder in folders.items()
        for pattern in [*settings["package-data"]["*"], *settings["package-data"].get(name, [])]
        for path in folder.glob(pattern)
    }
    there = {path for path in (ROOT / "edgekit").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert there
    assert there <= packed
