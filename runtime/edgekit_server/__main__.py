"""The command: ``edgekit-runtime serve``, or ``python -m edgekit_server``."""

from __future__ import annotations

import argparse
import sys
from typing import Sequence

from edgekit_runtime.errors import EdgekitError
from edgekit_server import serve
from edgekit_server.launch import Terms

EXAMPLES = """\
examples:
  edgekit-runtime serve
  edgekit-runtime serve digits --socket /run/edgekit/digits.sock
  edgekit-runtime serve brakes number-plates:10
  edgekit-runtime serve --listen 0.0.0.0:8000 --token-file /etc/edgekit/token
  edgekit-runtime serve --grpc 8001
"""
MIB = 1 << 20


def main(words: Sequence[str] | None = None) -> None:
    """Ends with status 1 and one line where it cannot serve."""
    asked = _parser().parse_args(words)
    try:
        nice = serve.niceness(asked.apps)
        terms = Terms(cache_bytes=int(asked.cache_mib * MIB), memory_bytes=int(asked.memory_mib * MIB), nice=nice)
        http = serve.place(asked.listen, asked.socket)
        grpc = serve.place(asked.grpc, "") if asked.grpc else None
        token = serve.token(asked.token_file, *filter(None, (http, grpc)))
        serve.serve(terms, serve.Doors(http, grpc, token), list(nice))
    except EdgekitError as error:
        sys.exit(f"edgekit-runtime: {error.message}{f' — {error.hint}' if error.hint else ''}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "edgekit-runtime serve",
        description="Serve the apps that are live on this device over HTTP: all of them, or those that are named.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("apps", nargs="*", metavar="APP[:NICE]", help="0 to 19: how far others go before it (nice(1))")
    parser.add_argument("--listen", default=str(serve.PORT), metavar="[HOST:]PORT", help="default: 8000, here alone")
    parser.add_argument("--socket", default="", metavar="PATH", help="a Unix socket instead")
    parser.add_argument(
        "--grpc", default="", metavar="[HOST:]PORT", help="gRPC, too (first: edgekit device setup NAME --grpc)"
    )
    parser.add_argument("--token-file", default="", metavar="FILE", help="what requests must bear; needed for others")
    parser.add_argument("--cache-mib", type=float, default=0.0, metavar="MIB", help="answers to keep (default: none)")
    parser.add_argument("--memory-mib", type=float, default=0.0, metavar="MIB", help="for all models together")
    return parser


if __name__ == "__main__":
    main()
