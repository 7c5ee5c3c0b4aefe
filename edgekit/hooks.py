"""Hooks: executables of the project that hear of a push, in ``hooks/`` beside edgekit.toml; they run on this host.

``pre-push`` before a byte is sent; with another exit status than 0 the device gets nothing. ``post-push`` after a push
that pre-push let through, however it ended. ``on-rollback`` after a rollback. They stand in the project's folder, read
nothing, and have ``EDGEKIT_*`` variables in their environment; what they print is shown.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

from edgekit.errors import EdgekitError, HookError

FOLDER = Path("hooks")
TIMEOUT_S = 300.0
LONGEST = 300

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Event:
    """What a hook is told, each as ``EDGEKIT_`` and the name in capitals.

    ``release``: the digest that is to be live, or is; ``previous``: the one that was before, "" for none. ``bundle``:
    a folder on this host. ``outcome``: live or failed, and then ``error``: its code. "" for what does not apply.
    """

    device: str
    uri: str
    app: str
    release: str
    previous: str = ""
    bundle: str = ""
    outcome: str = ""
    error: str = ""

    def variables(self) -> dict[str, str]:
        return {f"EDGEKIT_{field.name.upper()}": getattr(self, field.name) for field in fields(self)}


@contextmanager
def around(event: Event, folder: Path, tell: Tell) -> Iterator[None]:
    """``pre-push``, the block, ``post-push``. Raises: HookError, and what the block raises."""
    run("pre-push", event, folder, tell)
    outcome = replace(event, outcome="failed", error="interrupted")
    try:
        yield
        outcome = replace(event, outcome="live")
    except EdgekitError as error:
        outcome = replace(event, outcome="failed", error=error.code)
        raise
    finally:
        inform("post-push", outcome, folder, tell)


def inform(name: str, event: Event, folder: Path, tell: Tell) -> None:
    """Run a hook that nothing depends on any more: its failure is told."""
    try:
        run(name, event, folder, tell)
    except HookError as error:
        tell(str(error))


def run(name: str, event: Event, folder: Path, tell: Tell) -> None:
    """Run a hook, if the project has it. Raises: HookError."""
    path = (folder / name).absolute()
    if not path.exists():
        return
    if not path.is_file() or not os.access(path, os.X_OK):
        raise HookError(f"hooks/{name} is not executable", f"chmod +x {path}")
    environment = {**os.environ, "EDGEKIT_HOOK": name, **event.variables()}
    try:
        ended, last = _run(path, environment, lambda line: tell(f"{name}: {line}"))
    except OSError as error:
        raise HookError(
            f"hooks/{name} cannot be run: {error.strerror}", "its first line names a program: #!…"
        ) from error
    if ended:
        raise HookError(f"hooks/{name} {ended}{f': {last}' if last else ''}")


def _run(path: Path, environment: dict[str, str], tell: Tell) -> tuple[str, str]:
    """How it ended, "" where well, and the last line that it printed."""
    last, late = "", threading.Event()
    with subprocess.Popen(
        [path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=path.parent.parent,
        env=environment,
        start_new_session=True,
    ) as process:
        alarm = threading.Timer(TIMEOUT_S, _ring, [process, late])
        alarm.start()
        try:
            for line in process.stdout or ():
                last = line.decode(errors="replace").rstrip()[:LONGEST]
                tell(last)
            process.wait()
        except BaseException:
            _kill(process)
            raise
        finally:
            alarm.cancel()
    if late.is_set():
        return f"did not end within {TIMEOUT_S:g} s", last
    return f"ended with status {process.returncode}" if process.returncode else "", last


def _ring(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
