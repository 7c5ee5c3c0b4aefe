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
MODULES = ("ai_edge_litert", "tflite_runtime", "onnxruntime")
PACKAGES = ("numpy", "edgekit-runtime", "edgekit-server", "grpcio", "edgekit-courier", "edgekit-train")
INSTALLED = "install ok installed"


def probe() -> "dict[str, object]":
    """All facts; None for one that this machine does not tell."""
    home = os.environ.get("EDGEKIT_HOME") or _default_home()
    disk = shutil.disk_usage(_existing(home))
    memory, installed = _text("/proc/meminfo"), versions(sys.path)
    tegra = l4t(_text("/etc/nv_tegra_release"))
    return {
        "schema_version": 1,
        "arch": arch(platform.machine(), sys.maxsize > 1 << 32),
        "emulated": emulated(),
        "model": _text("/sys/firmware/devicetree/base/model") or _text("/proc/device-tree/model") or None,
        "os": os_name(_text("/etc/os-release")) or platform.system(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "python": platform.python_version(),
        "python_executable": sys.executable,
        "python_venv": _has("ensurepip"),
        "packages": {name: installed.get(name) for name in PACKAGES},
        "engines": {name: installed.get(name) for name in ENGINES},
        "engine_modules": [name for name in MODULES if _has(name)],
        "postprocess": _has("edgekit_postprocess"),
        "cpus": os.cpu_count(),
        "cpu_flags": cpu_flags(_text("/proc/cpuinfo")),
        "memory_mib": mebibytes(memory, "MemTotal"),
        "memory_available_mib": mebibytes(memory, "MemAvailable"),
        "disk_free_mib": disk.free >> 20,
        "l4t": tegra,
        "jetpack": package_version(_text("/var/lib/dpkg/status"), "nvidia-jetpack") if tegra else None,
        "ssh_keygen": shutil.which("ssh-keygen"),
        "home": home,
    }


def arch(machine: str, is_64_bit: bool) -> str:
    """What wheels must be built for: Raspberry Pi OS runs 32-bit programs under a 64-bit kernel."""
    return "armv7l" if machine == "aarch64" and not is_64_bit else machine


def emulated() -> bool:
    """Whether an emulator runs this program: then its speed is not that of the machine that it shows."""
    kernel = _text("/proc/sys/kernel/arch")  # since Linux 6.1; qemu's user emulation has another uname, but not this
    return "QEMU_CPU" in os.environ or (bool(kernel) and family(kernel) != family(platform.machine()))


def family(machine: str) -> str:
    """The processors that run each other's programs: 32-bit ones under a 64-bit kernel."""
    if machine == "aarch64" or machine.startswith("arm"):
        return "arm"
    return "x86" if re.match("x86_64|i[3-6]86", machine) else machine


def os_name(os_release: str) -> "str | None":
    return _found(r'^PRETTY_NAME="?([^"\n]*)', os_release)


def cpu_flags(cpuinfo: str) -> "list[str]":
    return (_found(r"^(?:flags|Features)[ \t]*:[ \t]*(.*)$", cpuinfo) or "").split()


def mebibytes(meminfo: str, key: str) -> "int | None":
    kibibytes = _found(r"^%s:\s*(\d+) kB" % key, meminfo)
    return int(kibibytes) >> 10 if kibibytes else None


def l4t(nv_tegra_release: str) -> "str | None":
    """Jetson's Linux for Tegra, from a line such as ``# R36 (release), REVISION: 4.3, …``."""
    found = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", nv_tegra_release)
    return "%s.%s" % found.groups() if found else None


def package_version(dpkg_status: str, name: str) -> "str | None":
    """The version of an installed package, from its paragraph (deb-control(5))."""
    for paragraph in dpkg_status.split("\n\n"):
        if _found(r"^Package: (.*)$", paragraph) == name and _found(r"^Status: (.*)$", paragraph) == INSTALLED:
            return _found(r"^Version: (.*)$", paragraph)
    return None


def versions(path: "list[str]") -> "dict[str, str]":
    """Of the distributions on a path, by the names of their folders; importlib.metadata takes ten times as long."""
    found = {}  # type: dict[str, str]
    for folder in path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for match in filter(None, map(re.compile(r"([^-]+)-([^-]+)(-py[\d.]+)?\.(?:dist|egg)-info").fullmatch, names)):
            found.setdefault(re.sub(r"[-_.]+", "-", match.group(1)).lower(), match.group(2))
    return found


def _found(pattern: str, text: str) -> "str | None":
    found = re.search(pattern, text, re.M)
    return found.group(1) if found else None


def _default_home() -> str:
    if os.geteuid() == 0:
        return "/var/lib/edgekit"
    return os.path.join(os.path.expanduser("~"), ".local/share/edgekit")


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path) or "/"
    return path


def _text(path: str) -> str:
    """What a file says; nothing for one that cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0\n ")
    except OSError:
        return ""


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


if __name__ == "__main__":
    print(json.dumps(probe()))
