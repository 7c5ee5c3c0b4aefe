"""The probe: what it makes of texts recorded on boards, and that any Python runs it."""

from __future__ import annotations

import ast
import json
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit_runtime import probe as probing
from edgekit_runtime.probe import arch, cpu_flags, family, l4t, mebibytes, os_name, package_version, probe, versions

SOURCE = Path(probing.__file__)
PYENV = Path.home() / ".pyenv" / "versions"
KEYS = [
    "schema_version",
    "arch",
    "emulated",
    "model",
    "os",
    "kernel",
    "libc",
    "python",
    "python_executable",
    "python_venv",
    "packages",
    "engines",
    "engine_modules",
    "postprocess",
    "cpus",
    "cpu_flags",
    "memory_mib",
    "memory_available_mib",
    "disk_free_mib",
    "l4t",
    "jetpack",
    "ssh_keygen",
    "home",
]
PI_4 = """\
processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3

processor	: 1
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 cpuid

Revision	: c03114
Model		: Raspberry Pi 4 Model B Rev 1.4
"""
ORIN = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp asimddp\nCPU part\t: 0xd42\n"
X86 = "processor\t: 0\nmodel name\t: Intel\nflags\t\t: fpu sse2 avx2\nvmx flags\t: vnmi\nbugs\t\t:\n"
MEMINFO = "MemTotal:        1853116 kB\nMemFree:          611640 kB\nMemAvailable:    1420388 kB\nSwapTotal: 0 kB\n"
DPKG = """\
Package: nvidia-jetpack-runtime
Status: install ok installed
Version: 5.1.1-b56

Package: nvidia-jetpack
Status: install ok installed
Priority: standard
Section: metapackages
Depends: nvidia-jetpack-runtime (= 6.0+b106)
Description: NVIDIA Jetpack Meta Package
 Version: not this one
Version: 6.0+b106

Package: removed
Status: deinstall ok config-files
Version: 1.0
"""


def oldest_python() -> str:
    """The oldest Python 3 from 3.6 on of this machine."""
    found = {
        tuple(map(int, path.parent.parent.name.split("."))): str(path)
        for path in PYENV.glob("3.*/bin/python")
        if path.parent.parent.name.replace(".", "").isdigit()
    }
    for minor in range(6, sys.version_info.minor):
        if path := shutil.which(f"python3.{minor}"):
            found.setdefault((3, minor, 99), path)
    usable = {version: path for version, path in found.items() if version >= (3, 6)}
    return usable[min(usable)] if usable else sys.executable


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan 8", "36.4.3"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug 1", "35.4.1"),
        ("# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64, DATE: Sat Feb 19", "32.7.1"),
        ("", None),
        ("something else\n# R36 (release), REVISION: 4.3", None),
    ],
)
def test_l4t_from_a_jetson_s_release_file(text: str, version: str | None) -> None:
    assert l4t(text) == version


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (PI_4, ["fp", "asimd", "evtstrm", "crc32", "cpuid"]),
        (ORIN, ["fp", "asimd", "evtstrm", "aes", "crc32", "atomics", "fphp", "asimdhp", "asimddp"]),
        (X86, ["fpu", "sse2", "avx2"]),
        ("Features\t: \nCPU part\t: 0xd08\n", []),
        ("processor\t: 0\nisa\t\t: rv64imafdc\n", []),
        ("", []),
    ],
    ids=["Raspberry Pi 4", "Jetson Orin", "x86", "empty", "RISC-V", "nothing"],
)
def test_cpu_flags_of_the_first_core(text: str, flags: list[str]) -> None:
    assert cpu_flags(text) == flags


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x86_64", "i686", True),
        ("aarch64", "armv8l", True),
        ("aarch64", "arm", True),
        ("x86_64", "aarch64", False),
        ("riscv64", "x86_64", False),
        ("riscv64", "riscv64", True),
    ],
)
def test_a_kernel_of_another_family_is_an_emulator_s(one: str, other: str, same: bool) -> None:
    assert (family(one) == family(other)) is same


def test_nothing_emulates_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not probe()["emulated"]
    monkeypatch.setenv("QEMU_CPU", "cortex-a72")
    assert probe()["emulated"]


def test_memory_in_mebibytes() -> None:
    assert mebibytes(MEMINFO, "MemTotal") == 1809
    assert mebibytes(MEMINFO, "MemAvailable") == 1387
    assert mebibytes(MEMINFO, "MemShiny") is None
    assert mebibytes("", "MemTotal") is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n', "Debian GNU/Linux 12 (bookworm)"),
        ("PRETTY_NAME=Alpine\n", "Alpine"),
        ("", None),
    ],
)
def test_the_name_of_the_system(text: str, name: str | None) -> None:
    assert os_name(text) == name


def test_versions_are_those_that_the_metadata_tell() -> None:
    found = versions(sys.path)
    told = {re.sub("[-_.]+", "-", each.metadata["Name"]).lower(): each.version for each in distributions()}
    assert told.items() <= found.items()
    assert found["numpy"] == np.__version__


def test_versions_by_other_names_of_their_folders(tmp_path: Path) -> None:
    names = (
        "numpy-1.19.5.egg-info",
        "ai_edge_litert-2.1.0.dist-info",
        "PyYAML-6.0-py3.9.egg-info",
        "numpy",
        "x.egg-info",
    )
    for name in names:
        (tmp_path / name).touch()
    found = versions(["/nowhere", str(tmp_path), ""])
    assert (found["numpy"], found["ai-edge-litert"], found["pyyaml"]) == ("1.19.5", "2.1.0", "6.0")


def test_the_version_of_an_installed_package() -> None:
    assert package_version(DPKG, "nvidia-jetpack") == "6.0+b106"
    assert package_version(DPKG, "nvidia-jetpack-runtime") == "5.1.1-b56"
    assert package_version(DPKG, "removed") is None
    assert package_version(DPKG, "jetpack") is None
    assert package_version("", "nvidia-jetpack") is None


@pytest.mark.parametrize(
    ("machine", "is_64_bit", "name"),
    [
        ("aarch64", True, "aarch64"),
        ("aarch64", False, "armv7l"),
        ("armv7l", False, "armv7l"),
        ("armv6l", False, "armv6l"),
        ("x86_64", True, "x86_64"),
    ],
)
def test_a_32_bit_python_under_a_64_bit_kernel_needs_32_bit_wheels(machine: str, is_64_bit: bool, name: str) -> None:
    assert arch(machine, is_64_bit) == name


def test_the_facts_of_this_machine() -> None:
    facts: dict[str, Any] = probe()
    assert list(facts) == KEYS
    assert facts["python"] == platform.python_version()
    assert facts["packages"]["numpy"]
    assert facts["engines"]["onnxruntime"]
    assert 0 < facts["memory_available_mib"] <= facts["memory_mib"]
    assert facts["disk_free_mib"] > 0
    assert facts["cpus"] > 0


def test_a_home_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for home in (str(tmp_path / "a" / "b" / "c"), "relative/a/b"):
        monkeypatch.setenv("EDGEKIT_HOME", home)
        assert probe()["home"] == home


def test_the_oldest_python_of_this_machine_runs_it() -> None:
    python = oldest_python()
    command = [python, "-I", "-W", "error", "-"]
    done = subprocess.run(command, input=SOURCE.read_bytes(), capture_output=True, check=True, env={"LC_ALL": "C"})
    assert done.stderr == b""
    facts = json.loads(done.stdout)
    assert list(facts) == KEYS
    version = subprocess.run([python, "-c", "import platform; print(platform.python_version())"], capture_output=True)
    assert facts["python"] == version.stdout.decode().strip()


def test_its_syntax_is_that_of_python_3_6_and_it_imports_the_standard_library_only() -> None:
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 6))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= set(sys.stdlib_module_names)
