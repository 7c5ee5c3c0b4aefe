"""Unit: what systemd is told of a service (systemd.service(5), systemd.exec(5)), its words as they are."""

from __future__ import annotations

from dataclasses import dataclass

UNIT = """\
[Unit]
Description=edgekit: {about}
{condition}StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
Environment={variables}
TimeoutStartSec=300
WatchdogSec={watchdog_s}
Restart=always
RestartSec=5
KillSignal=SIGINT
{own}UMask=0077
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
"""The program says when it is ready. SIGINT lets Python end in order: its session is closed, which a trial would count
as a failed start otherwise. Restarts never end: nobody is there who would start it again.
"""
PROGRAM = "TimeoutStopSec=15\n"
SERVER = """\
KillMode=mixed
OOMPolicy=continue
RuntimeDirectory=edgekit
TimeoutStopSec=45
"""
"""The server ends its workers itself, and lives on when one of them takes too much memory. ``/run/edgekit`` is for its
socket.
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


@dataclass(frozen=True)
class Unit:
    """``app``: whose current release it waits for, "" for a server or ``courier``, which wait for none.

    ``root``: it is the system's; else its user's own.
    """

    app: str
    command: tuple[str, ...]
    watchdog_s: int
    root: bool
    courier: bool = False

    def text(self, home: str) -> str:
        """The file; every word of the command reaches the program as it is."""
        first, *rest = self.command
        condition = f"ConditionPathExists={home.replace('%', '%%')}/apps/{self.app}/current\n" if self.app else ""
        read_only = " ".join(_quoted(f"-{home}/{name}") for name in READ_ONLY)
        return UNIT.format(
            about=self.app or ("courier" if self.courier else "server"),
            condition=condition,
            command=" ".join([_quoted(first), *(_quoted(word.replace("$", "$$")) for word in rest)]),
            variables=" ".join(map(_quoted, (f"EDGEKIT_HOME={home}", "PYTHONUNBUFFERED=1"))),
            watchdog_s=self.watchdog_s,
            own=PROGRAM if self.app or self.courier else SERVER,
            hardening=HARDENING.format(home=_quoted(home), read_only=read_only) if self.root else "",
            wanted_by="multi-user.target" if self.root else "default.target",
        )


def _quoted(word: str) -> str:
    for mark, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%")):
        word = word.replace(mark, escaped)
    return f'"{word}"'
