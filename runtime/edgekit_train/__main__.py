"""The device's side of a round: ``python -m edgekit_train COMMAND``; every command prints one JSON object.

An error is ``{"error": {"code", "message", "hint"}}`` with another exit status than 0.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy comes: two that wait for who serves are slower

from edgekit_runtime import host
from edgekit_runtime.home import default_home
from edgekit_train import prints, words

NICE = 10
"""Who serves goes before."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("edgekit-train", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, action: Callable[..., dict[str, Any]], *arguments: str) -> None:
        command = commands.add_parser(name, help=(action.__doc__ or "").partition(" Raises")[0].partition("\n")[0])
        for argument in arguments:
            command.add_argument(argument)
        command.set_defaults(action=action)

    add("key", words.key)
    add("live", words.live)
    add("init", words.init, "app", "trainer")
    add("learn", words.learn, "app", "round_id")
    add("secure", words.secure, "app", "round_id")
    add("forget", words.forget, "app", "round_id")
    return parser


def main() -> int:
    arguments = vars(_parser().parse_args())
    action = arguments.pop("action")
    os.nice(NICE)
    return host.answer(lambda: action(default_home(), **arguments))


if __name__ == "__main__":
    status = main()
    prints.over()
    sys.exit(status)
