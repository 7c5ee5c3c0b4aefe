"""The command: ``edgekit-runtime serve``, or ``python -m edgekit_server``."""

from __future__ import annotations

import argparse
import sys
from typing import Sequence

from edgekit_runtime.errors import EdgekitError
from edgekit_server import serve
from edgekit_server.workers import Terms

EXAMPLES = """\
examples:
  edgekit-runtime serve
  edgekit-runtime serve digits --socket /run/edgekit/digits.sock
  edgekit-runtime serve --listen 0.0.0.0:8000 --token-file /etc/edgekit/token
"""
MIB = 1 << 20


def main(words: Sequence[str] | None = None) -> None:
    """Ends with status 1 and one line where it cannot serve."""
    asked = _parser().parse_args(words)
    terms = Terms(cache_bytes=int(asked.cache_mib * MIB), memory_bytes=int(asked.memory_mib * MIB))
    try:
        where = serve.place(asked.listen, asked.socket)
        serve.serve(terms, where, serve.token(asked.token_file, where), asked.apps)
    except EdgekitError as error:
        sys.exit(f"edgekit-runtime: {error.message}{f' — {error.hint}' if error.hint else ''}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "edgekit-runtime serve",
        description="Serve the apps that are live on this device over HTTP: all of them, or those that are named.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("apps", nargs="*", metavar="APP")
    parser.add_argument("--listen", default=str(serve.PORT), metavar="[HOST:]PORT", help="default: 8000, here alone")
    parser.add_argument("--socket", default="", metavar="PATH", help="a Unix socket instead")
    parser.add_argument("--token-file", default="", metavar="FILE", help="what requests must bear; needed for others")
    parser.add_argument("--cache-mib", type=float, default=0.0, metavar="MIB", help="answers to keep (default: none)")
    parser.add_argument("--memory-mib", type=float, default=0.0, metavar="MIB", help="for all models together")
    return parser


if __name__ == "__main__":
    main()
