"""Devices of ``faces`` that drop out of a secure round: their process ends in the middle of what it was asked."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.lab.faces import PYTHON, ROOT

PARTY = ("advert", "share", "mask", "confirm", "open")
"""What a device does in a secure round, in order."""
DYING = """
import os, sys
from edgekit_train import __main__, masks
setattr(masks.Party, sys.argv.pop(1), lambda *_: os._exit(9))
sys.exit(__main__.main())
"""


SLEEPING = """
import sys, time
from edgekit_train import __main__
time.sleep(60)
sys.exit(__main__.main())
"""
LACKING = """
import sys
sys.modules["cryptography"] = None
from edgekit_train import __main__
sys.exit(__main__.main())
"""


def drops(home: Path, when: str | None) -> None:
    """From now on, at that moment of every secure round; None: never any more."""
    script = "" if when is None else _script(home, DYING, '[ "$4" = secure ] && shift 3', when)
    _python(home, script)


def lacks(home: Path) -> None:
    """From now on, the device has no ``cryptography``."""
    _python(home, _script(home, LACKING, '[ "$3" = edgekit_train ] && shift 3'))


def sleeps(home: Path) -> None:
    """From now on, the device learns for a minute."""
    _python(home, _script(home, SLEEPING, '[ "$4" = secure ] && shift 3'))


def _script(home: Path, source: str, condition: str, *words: str) -> str:
    script = home / "instead.py"
    script.write_text(source)
    path = f"PYTHONPATH={ROOT}:{ROOT / 'runtime'}"
    return f'{condition} && {path} exec {sys.executable} {" ".join([str(script), *words])} "$@"\n'


def _python(home: Path, first: str) -> None:
    python = home / "env" / "bin" / "python"
    python.unlink()
    python.write_text(PYTHON.replace("#!/bin/sh\n", f"#!/bin/sh\n{first}"))
    python.chmod(0o755)
