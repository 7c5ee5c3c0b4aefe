"""Service: a program of the device that serves an app, as a systemd unit: started at boot, restarted, watched.

With root it is a unit of the system that may read everything and write edgekit's home alone, without capabilities;
otherwise one of the user's own, which linger keeps running without a login.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from edgekit import device as devices
from edgekit.errors import CommandError, ConfigError
from edgekit.transports import Transport
from edgekit_runtime.home import NAME
from edgekit_runtime.service import unit

WATCHDOG_S = 300
PYTHON = ("python", "python3")

UNIT = """\
[Unit]
Description=edgekit: {app}
ConditionPathExists={condition}/apps/{app}/current
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
Environment={variables}
TimeoutStartSec=300
WatchdogSec={watchdog_s}
Restart=always
RestartSec=5
KillSignal=SIGINT
TimeoutStopSec=15
UMask=0077
LockPersonality=yes
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
{hardening}
[Install]
WantedBy={wanted_by}
"""
"""``edgekit_runtime.load`` says when it is ready. SIGINT lets Python end in order: its session is closed, which a trial
would count as a failed start otherwise. Restarts never end: nobody is there who would start it again.
"""
HARDENING = """\
CapabilityBoundingSet=
DevicePolicy=closed
DeviceAllow=char-video4linux rw
DeviceAllow=char-media rw
DeviceAllow=char-i2c rw
DeviceAllow=char-gpiochip rw
PrivateMounts=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
ReadWritePaths={home}
ReadOnlyPaths={read_only}
RestrictNamespaces=yes
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
"""
"""No MemoryDenyWriteExecute, as engines make code; no ProcSubset, as they read /proc/cpuinfo."""
READ_ONLY = ("trust", "env", "envs", "blobs")

LOOK = "id -u; if [ -d /run/systemd/system ]; then echo systemd; else echo none; fi"
INSTALL = """\
set -e
unit=$1
if [ "$(id -u)" = 0 ]; then
  place=/etc/systemd/system; set --
else
  place=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user; set -- --user
  export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"
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


@dataclass(frozen=True)
class Program:
    """What serves an app: the words of a command as the device has it; ``python`` is that of edgekit's environment.

    ``watchdog_s``: it is started again when it has inferred nothing for so long; 0 for never.
    """

    app: str
    words: tuple[str, ...]
    watchdog_s: int = WATCHDOG_S

    def command(self, home: str) -> tuple[str, ...]:
        first, *rest = self.words
        return (f"{home}/env/bin/python" if first in PYTHON else first, *rest)


@dataclass(frozen=True)
class Installed:
    """``unit`` is None where there is no systemd, and then ``note`` says how to run the program."""

    unit: str | None
    note: str


def program(app: str, command: str, watchdog_s: int = WATCHDOG_S) -> Program:
    """Raises: ConfigError for a command that cannot be one of a service, or a name that no app has."""
    if not NAME.fullmatch(app):
        raise ConfigError(f"{app!r} is no app name", "lower-case letters, digits, '.', '_' and '-'")
    hint = "such as --service 'python /home/pi/loop.py'"
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise ConfigError(f"--service {command!r}: {error}", hint) from error
    if not words or not all(word.isprintable() for word in words):
        raise ConfigError(f"--service {command!r} is no command", hint)
    if words[0] not in PYTHON and (not words[0].startswith("/") or "$" in words[0]):
        raise ConfigError(f"--service: {words[0]!r} is neither python nor an absolute path on the device", hint)
    return Program(app, words, watchdog_s)


def text(served: Program, home: str, *, root: bool) -> str:
    """The unit (systemd.service(5)); every word of the command reaches the program as it is."""
    first, *rest = served.command(home)
    command = " ".join([_quoted(first), *(_quoted(word.replace("$", "$$")) for word in rest)])
    variables = " ".join(map(_quoted, (f"EDGEKIT_HOME={home}", "PYTHONUNBUFFERED=1")))
    read_only = " ".join(_quoted(f"-{home}/{name}") for name in READ_ONLY)
    return UNIT.format(
        app=served.app,
        condition=home.replace("%", "%%"),
        command=command,
        variables=variables,
        watchdog_s=served.watchdog_s,
        hardening=HARDENING.format(home=_quoted(home), read_only=read_only) if root else "",
        wanted_by="multi-user.target" if root else "default.target",
    )


def _quoted(word: str) -> str:
    for mark, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%")):
        word = word.replace(mark, escaped)
    return f'"{word}"'


def install(transport: Transport, served: Program) -> Installed:
    """Write the unit, and start it as soon as the app is live. Raises: CommandError, DeviceError, TransportError."""
    home = devices.probe(transport)["home"]
    user, manager = transport.run(["sh", "-c", LOOK]).check().stdout.decode().split()
    if manager != "systemd":
        command = shlex.join([f"EDGEKIT_HOME={home}", *served.command(home)])
        return Installed(
            None, f"there is no systemd on this device; what starts programs there has to run: env {command}"
        )
    name, root = unit(served.app), user == "0"
    unit_text = text(served, home, root=root).encode()
    done = transport.run(["sh", "-c", INSTALL, "edgekit", name], stdin=unit_text)
    if done.status:
        why = devices.last_line(done.stderr)
        hint = None if root else "services of a user need libpam-systemd there, and: sudo loginctl enable-linger USER"
        raise CommandError(f"installing {name} failed: {why}", hint)
    if b"lingerless" in done.stdout:
        return Installed(name, "it runs only while its user is logged in, until: sudo loginctl enable-linger USER")
    return Installed(name, f"its log, there: journalctl {'' if root else '--user '}-u {name}")
