"""Probe: what this machine is, as one JSON object.

Needs nothing but the standard library of Python 3.6, so that the host can run it on a device before anything is
installed there: ``python3 - < probe.py``.
"""

import json
import os
import platform
import re
import shutil
import sys

ENGINES = ("ai-edge-litert", "tflite-runtime", "onnxruntime", "onnxruntime-gpu")
PACKAGES = ("numpy", "edgekit-runtime")


def probe() -> "dict[str, object]":
    """All facts; None for one that this machine does not tell."""
    home = os.environ.get("EDGEKIT_HOME") or _default_home()
    disk = shutil.disk_usage(_existing(home))
    return {
        "schema_version": 1,
        "arch": platform.machine(),
        "model": _text("/sys/firmware/devicetree/base/model", "/proc/device-tree/model"),
        "os": _os_name(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "python": platform.python_version(),
        "python_executable": sys.executable,
        "python_venv": _has("ensurepip"),
        "packages": {name: _version(name) for name in PACKAGES},
        "engines": {name: _version(name) for name in ENGINES},
        "cpus": os.cpu_count(),
        "cpu_flags": _cpu_flags(),
        "memory_mib": _memory("MemTotal"),
        "memory_available_mib": _memory("MemAvailable"),
        "disk_free_mib": disk.free >> 20,
        "l4t": _l4t(),
        "jetpack": _version_of_package("nvidia-jetpack"),
        "ssh_keygen": shutil.which("ssh-keygen"),
        "home": home,
    }


def _default_home() -> str:
    if os.geteuid() == 0:
        return "/var/lib/edgekit"
    return os.path.join(os.path.expanduser("~"), ".local/share/edgekit")


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path) or "/"
    return path


def _text(*paths: str) -> "str | None":
    for path in paths:
        try:
            with open(path, errors="replace") as file:
                return file.read(1 << 16).strip("\0\n ")
        except OSError:
            continue
    return None


def _os_name() -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', _text("/etc/os-release") or "", re.M)
    return found.group(1) if found else platform.system()


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def _version(name: str) -> "str | None":
    try:
        from importlib.metadata import PackageNotFoundError, version
    except ImportError:  # Python 3.7 and older
        return None
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_flags() -> "list[str]":
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", _text("/proc/cpuinfo") or "", re.M)
    return found.group(1).split() if found else []


def _memory(key: str) -> "int | None":
    found = re.search(r"^%s:\s*(\d+) kB" % key, _text("/proc/meminfo") or "", re.M)
    return int(found.group(1)) >> 10 if found else None


def _l4t() -> "str | None":
    """Jetson's Linux for Tegra, from a line such as ``# R36 (release), REVISION: 4.3, …``."""
    found = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", _text("/etc/nv_tegra_release") or "")
    return "%s.%s" % found.groups() if found else None


def _version_of_package(name: str) -> "str | None":
    text = _text("/var/lib/dpkg/info/%s.list" % name)
    if text is None:
        return None
    found = re.search(r"^Package: %s\n(?:.+\n)*?Version: (.*)$" % name, _all("/var/lib/dpkg/status"), re.M)
    return found.group(1) if found else None


def _all(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


if __name__ == "__main__":
    print(json.dumps(probe()))
