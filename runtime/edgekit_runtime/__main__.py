"""The device's side of a push: ``python -m edgekit_runtime COMMAND``; every command prints one JSON object.

An error is ``{"error": {"code", "message", "hint"}}`` with another exit status than 0.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, Callable

from edgekit_runtime import collect, commands, host


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("edgekit-runtime", description=__doc__)
    words = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, action: Callable[[argparse.Namespace], dict[str, Any]], *arguments: str
    ) -> argparse.ArgumentParser:
        command = words.add_parser(name, help=(action.__doc__ or "").partition("\n")[0])
        for argument in arguments:
            name, _, default = argument.partition("=")
            optional: dict[str, Any] = {"default": default} if default else {"required": True}
            command.add_argument(name, **(optional if name.startswith("-") else {}))
        command.set_defaults(action=action)
        return command

    add("push", commands.push, "app")
    add("prove", commands.prove, "app", "digest")
    switch = add("activate", commands.activate, "app", "digest", f"--keep={collect.KEEP}")
    switch.add_argument("--allow-downgrade", action="store_true")
    add("confirm", commands.confirm, "app")
    back = add("rollback", commands.rollback, "app")
    back.add_argument("--rule", default="", metavar="REASON")
    back.add_argument("--leaving", default="", metavar="DIGEST")
    add("status", commands.status)
    add("why", commands.why).add_argument("app", nargs="?")
    add("run", commands.run, "app", "--input", "--output")
    add("time", commands.timed, "folder")
    add("bench", commands.bench, "app")
    add("report", commands.reports)
    add("trust", commands.trust)
    add("revoke", commands.revoke)
    add("signers", commands.signers)
    add("enrol", commands.enrol)
    add("deliver", commands.deliver).add_argument("--once", action="store_true")
    served = words.add_parser("serve", help="Serve apps over HTTP", add_help=False, prefix_chars="\0")  # has its own
    served.add_argument("words", nargs="*")
    served.set_defaults(action=commands.serve)
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    return host.answer(lambda: arguments.action(arguments))


if __name__ == "__main__":
    sys.exit(main())
