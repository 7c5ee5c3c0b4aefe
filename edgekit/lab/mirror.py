"""Mirror: where this machine's own apt finds Debian's packages, for trees that are made of them."""

from __future__ import annotations

import re
import subprocess

from edgekit.errors import DeviceError


def source(release: str) -> str:
    """The line of sources.list for a release of Debian. Raises: DeviceError."""
    targets = _apt("apt-get", "indextargets", "--no-release-info", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)")
    for found, component, uri in (line.split(maxsplit=2) for line in targets):
        if (found, component) == (release, "main"):
            return f"deb {uri} {release} main"
    raise DeviceError(
        f"this machine's apt has no Debian {release}", "add it to /etc/apt/sources.list, and apt-get update"
    )


def options() -> list[str]:
    """By which mmdebstrap fetches as this machine's apt does, and no translations."""
    lines = [line for line in _apt("apt-config", "dump", "--format", '%f "%v";%n') if _is_proxy(line)]
    return [f"--aptopt={line}" for line in ('Acquire::Languages "none"', *lines)]


def failure(said: str) -> DeviceError:
    """What went wrong, of all that mmdebstrap said."""
    unreachable = re.search(r".*(apt-get update .*failed|Failed to fetch|Could not resolve).*", said)
    reason = unreachable[0] if unreachable else said.strip().rpartition("\n")[2]
    return DeviceError(f"the tree cannot be made: {reason.strip()[:300]}", "are Debian's packages in reach?")


def _is_proxy(line: str) -> bool:
    return re.match(r'Acquire::[^ ]*Proxy\S* "[^"]', line) is not None


def _apt(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
