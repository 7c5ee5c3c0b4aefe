"""Service: what a device runs by itself, as a systemd unit: started at boot, restarted, watched.

A program of the device's own that serves an app, the server of all, or the courier that brings away what is measured.
With root it is a unit of the system that may read everything and write edgekit's home alone, without capabilities;
otherwise one of the user's own, which linger keeps running without a login.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from edgekit import device as devices
from edgekit.answer import last_line
from edgekit.errors import CommandError, ConfigError
from edgekit.transports import Transport
from edgekit.unit import Unit
from edgekit_runtime import service as of_device
from edgekit_runtime.home import NAME

WATCHDOG_S = 300
SERVER_WATCHDOG_S, COURIER_WATCHDOG_S = 30, 600
"""A server says twice a second that it is well, also when nobody asks it."""
PYTHON = ("python", "python3")
RUNTIME, DELIVER = "edgekit-runtime", ("deliver",)
HINT = "such as --service 'python /home/pi/loop.py' or --service 'edgekit-runtime serve'"

LOOK = "id -u; if [ -d /run/systemd/system ]; then echo systemd; else echo none; fi"
MANAGER = """\
if [ "$(id -u)" = 0 ]; then
  place=/etc/systemd/system; set --
else
  place=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user; set -- --user
  export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"
fi
"""
"""Where its units lie, and the words that it takes before all others."""
INSTALL = f"""\
set -e
unit=$1
{MANAGER}\
if [ "$1" = --user ]; then
  user=$(id -un)
  for by in "" "sudo -n"; do $by loginctl enable-linger "$user" >/dev/null 2>&1 && break; done || :
  [ -e "/var/lib/systemd/linger/$user" ] || echo lingerless
  for i in 1 2 3 4 5 6 7 8 9 10; do [ -S "$XDG_RUNTIME_DIR/systemd/private" ] && break; sleep 0.5; done
fi
mkdir -p "$place"
cat >"$place/.$unit.tmp"
mv "$place/.$unit.tmp" "$place/$unit"
systemctl "$@" daemon-reload
systemctl "$@" --quiet enable "$unit"
systemctl "$@" --no-block restart "$unit"
"""
RENEW = f"""\
unit=$1 home=$2
{MANAGER}\
if grep -qsF "EDGEKIT_HOME=$home\\"" "$place/$unit"; then systemctl "$@" --no-block try-restart "$unit" || :; fi
"""


@dataclass(frozen=True)
class Service:
    """The words of a command there; ``python`` and ``edgekit-runtime`` are those of edgekit's environment.

    ``app``: which it serves, "" for the server and the courier. ``watchdog_s``: it is started again when it has said
    nothing for so long, a program by its inferences; 0 for never.
    """

    app: str
    words: tuple[str, ...]
    watchdog_s: int = WATCHDOG_S

    @property
    def courier(self) -> bool:
        return not self.app and self.words[1:] == DELIVER

    @property
    def server(self) -> bool:
        return not self.app and not self.courier

    @property
    def unit(self) -> str:
        return of_device.unit(self.app) if self.app else of_device.COURIER if self.courier else of_device.SERVER

    def command(self, home: str) -> tuple[str, ...]:
        first, *rest = self.words
        python = f"{home}/env/bin/python"
        if first == RUNTIME:
            return (python, "-I", "-m", "edgekit_runtime", *rest)
        return (python if first in PYTHON else first, *rest)


@dataclass(frozen=True)
class Installed:
    """``unit`` is None where there is no systemd, and then ``note`` says how to run the program."""

    unit: str | None
    note: str


def is_server(command: str) -> bool:
    """Whether a command is that of edgekit's own server, which then has to be brought."""
    return command.split()[:2] == [RUNTIME, "serve"]


def server(command: str, watchdog_s: int | None = None) -> Service:
    """Raises: ConfigError."""
    return Service("", _words(command), SERVER_WATCHDOG_S if watchdog_s is None else watchdog_s)


def is_courier(command: str) -> bool:
    """Whether a command is that of edgekit's own courier, which then has to be brought."""
    return command.split() == [RUNTIME, *DELIVER]


def courier(watchdog_s: int | None = None) -> Service:
    return Service("", (RUNTIME, *DELIVER), COURIER_WATCHDOG_S if watchdog_s is None else watchdog_s)


def program(app: str, command: str, watchdog_s: int | None = None) -> Service:
    """Raises: ConfigError for a command that cannot be one of a service, or a name that no app has."""
    if not NAME.fullmatch(app):
        raise ConfigError(f"{app!r} is no app name", "lower-case letters, digits, '.', '_' and '-'")
    words = _words(command)
    if words[0] not in PYTHON and (not words[0].startswith("/") or "$" in words[0]):
        raise ConfigError(f"--service: {words[0]!r} is neither python nor an absolute path on the device", HINT)
    return Service(app, words, WATCHDOG_S if watchdog_s is None else watchdog_s)


def _words(command: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise ConfigError(f"--service {command!r}: {error}", HINT) from error
    if not words or not all(word.isprintable() for word in words):
        raise ConfigError(f"--service {command!r} is no command", HINT)
    return words


def install(transport: Transport, served: Service) -> Installed:
    """Write the unit, and start it as soon as the app is live. Raises: CommandError, DeviceError, TransportError."""
    home = devices.probe(transport)["home"]
    user, manager = transport.run(["sh", "-c", LOOK]).check().stdout.decode().split()
    if manager != "systemd":
        command = shlex.join([f"EDGEKIT_HOME={home}", *served.command(home)])
        return Installed(
            None, f"there is no systemd on this device; what starts programs there has to run: env {command}"
        )
    name, root = served.unit, user == "0"
    text = Unit(served.app, served.command(home), served.watchdog_s, root, served.courier).text(home)
    done = transport.run(["sh", "-c", INSTALL, "edgekit", name], stdin=text.encode())
    if done.status:
        why = last_line(done.stderr)
        hint = None if root else "services of a user need libpam-systemd there, and: sudo loginctl enable-linger USER"
        raise CommandError(f"installing {name} failed: {why}", hint)
    if b"lingerless" in done.stdout:
        return Installed(name, "it runs only while its user is logged in, until: sudo loginctl enable-linger USER")
    return Installed(name, f"its log, there: journalctl {'' if root else '--user '}-u {name}")


def renew(transport: Transport, home: str) -> None:
    """Have what of ours runs as a service start anew, in the environment that has just been put in place."""
    for unit in (of_device.SERVER, of_device.COURIER):
        transport.run(["sh", "-c", RENEW, "edgekit", unit, home]).check()
