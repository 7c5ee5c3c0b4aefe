"""Removal: takes from a device what edgekit put there, and nothing else.

Only entries of edgekit's own layout go, and only from a folder that bears its marks: a home may have been set to a
folder that other things live in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit import device as devices
from edgekit.answer import printable
from edgekit.errors import DeviceError
from edgekit.transports import Transport

DATA = ("audit.log", "audit.log.1", "reports", "samples")
"""What the device has noted and kept: ``--keep-data`` leaves it there."""
OURS = re.compile(
    r"(env|envs|apps|blobs|compiled|courier|incoming|lock|trust|audit\.log|audit\.log\.1|reports|rounds|samples|\.[a-z.]+\.tmp|([a-z]+-|env\.)[0-9a-f]{32})"
)
"""The layout of ``edgekit_runtime.home``, and what ``provision`` and ``device.scratch`` may have left unfinished."""
BUSY = 96
REMOVE_TIMEOUT_S = 300.0

LOOK = """\
cd "$1" 2>/dev/null || exit 0
if [ -e env/complete ] || grep -qs 'namespaces="edgekit"' trust/allowed_signers; then echo ours; fi
for each in * .[!.]*; do if [ -e "$each" ] || [ -L "$each" ]; then echo "entry $each"; fi; done
for each in apps/*/releases/*; do if [ -d "$each" ]; then echo "release $each"; fi; done
for each in /etc/systemd/system/edgekit*.service "${XDG_CONFIG_HOME:-$HOME/.config}"/systemd/user/edgekit*.service; do
  if grep -qsF "EDGEKIT_HOME=$1\\"" "$each"; then echo "service $each"; fi
done
"""
STOP = """\
unit=${1##*/}
case $1 in
  /etc/*) set -- "$1" ;;
  *) set -- "$1" --user; export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}" ;;
esac
path=$1; shift
systemctl "$@" disable --now "$unit" || :
rm -f "$path" && systemctl "$@" daemon-reload || :
"""
REMOVE = f"""\
set -e
home=$1; shift
cd "$home"
if command -v flock >/dev/null 2>&1; then exec 9>>lock; flock -w 10 9 || exit {BUSY}; fi
rm -rf -- "$@"
cd /
rmdir "$home" 2>/dev/null || :
"""


@dataclass(frozen=True)
class Found:
    """What lies on a device: names of edgekit's in its home and of others, releases by app, paths of service units."""

    home: str
    ours: tuple[str, ...]
    others: tuple[str, ...]
    releases: tuple[tuple[str, int], ...]
    services: tuple[str, ...]

    @property
    def told(self) -> list[str]:
        """One line a thing that goes."""
        apps = [f"{number} release{'s' * (number > 1)} of {app}" for app, number in self.releases]
        parts = {"env": "the runtime and its engine", "trust": "the trusted keys", "samples": "the samples it has kept"}
        rest = [told for name, told in parts.items() if name in self.ours]
        return [*(f"the service {path}" for path in self.services), *apps, *rest, f"from {self.home}"]


def look(transport: Transport, *, keep_data: bool = False) -> Found:
    """What would go, and what would stay. Raises: DeviceError for a folder without edgekit's marks, TransportError."""
    home = devices.probe(transport)["home"]
    done = transport.run(["sh", "-c", LOOK, "edgekit", home]).check()
    lines = [printable(line).partition(" ") for line in done.stdout.decode(errors="replace").splitlines()]
    said = {kind: [rest for each, _, rest in lines if each == kind] for kind in ("ours", "entry", "release", "service")}
    goes = [name for name in said["entry"] if OURS.fullmatch(name) and not (keep_data and name in DATA)]
    if goes and not said["ours"]:
        raise DeviceError(f"{home} does not look like edgekit's: nothing was removed", "--forget leaves it as it is")
    apps = Counter(path.split("/")[1] for path in said["release"])
    others = [name for name in said["entry"] if name not in goes]
    return Found(home, tuple(goes), tuple(others), tuple(sorted(apps.items())), tuple(said["service"]))


def remove(transport: Transport, found: Found) -> None:
    """Stop the services, then remove; the marks go last, so that what was interrupted can be done again.

    Raises: DeviceError when a push is at work there, TransportError.
    """
    for path in found.services:
        transport.run(["sh", "-c", STOP, "edgekit", path]).check()
    for names in (_without_marks(found.ours), found.ours):
        if names:
            _remove(transport, found.home, names)


def _without_marks(names: Sequence[str]) -> Sequence[str]:
    return [name for name in names if name not in ("trust", "lock")]


def _remove(transport: Transport, home: str, names: Sequence[str]) -> None:
    done = transport.run(["sh", "-c", REMOVE, "edgekit", home, *names], timeout_s=REMOVE_TIMEOUT_S)
    if done.status == BUSY:
        raise DeviceError("a push or rollback is at work on this device", "try again when it is done")
    done.check()
