"""The device's side of a push: ``python -m edgekit_runtime COMMAND``; every command prints one JSON object.

An error is ``{"error": {"code", "message", "hint"}}`` with another exit status than 0.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable

import edgekit_runtime
from edgekit_runtime import bundle, home, releases, report, verify
from edgekit_runtime.errors import DeviceError, EdgekitError, InvalidInput, ProofFailed

STDIN_BYTES = 8 << 20


def missing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: {"blobs": [descriptor, …]}; which of them to send, and to where."""
    place = home.default_home()
    blobs = [bundle.Descriptor.of(document, bundle.LARGE) for document in _stdin()["blobs"]]
    lacking = releases.missing(place, blobs)
    return {"missing": [blob.digest for blob in lacking], "incoming": str(place / "incoming")}


def install(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: {"digest", "signature"}; take in what has been sent."""
    document = _stdin()
    release = releases.install(home.default_home(), document["digest"], document["signature"])
    return _release(release)


def prove(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a release's golden vectors here."""
    from edgekit_runtime import prove as proving

    release = releases.find(home.default_home(), arguments.app, arguments.digest)
    proof = proving.prove(release.bundle)
    if not proof.ok:
        releases.mark(release, "bad", reason="; ".join(proof.reasons), proof=proof.as_dict())
        raise ProofFailed(f"{arguments.app}: not proven on this device: {'; '.join(proof.reasons)}")
    return _release(releases.mark(release, "proven", proof=proof.as_dict()))


def activate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Switch current to a proven release."""
    return _release(releases.activate(home.default_home(), arguments.app, arguments.digest))


def rollback(arguments: argparse.Namespace) -> dict[str, Any]:
    """Switch current back to previous."""
    return _release(releases.rollback(home.default_home(), arguments.app, "rolled back by hand"))


def status(arguments: argparse.Namespace) -> dict[str, Any]:
    """What this device runs."""
    place = home.default_home()
    return {
        "runtime": edgekit_runtime.__version__,
        "home": str(place),
        "apps": [_app(place, name) for name in releases.apps(place)],
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """One inference: arrays by input name from an .npz (``x`` for a single input), outputs to an .npz."""
    import numpy as np

    try:
        with np.load(arguments.input, allow_pickle=False) as file:
            inputs = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise InvalidInput(f"the input is no .npz of arrays: {error}") from error
    with edgekit_runtime.load(arguments.app) as session:
        started = time.perf_counter()
        outputs: dict[str, Any] = session.predict(
            inputs["x"] if list(inputs) == ["x"] and len(session.interface.inputs) == 1 else inputs
        )
        elapsed = time.perf_counter() - started
        engine = {"name": session.engine.name, "version": session.engine.version, "provider": session.engine.provider}
    np.savez(arguments.output, **outputs)
    return {"app": arguments.app, "latency_ms": elapsed * 1e3, "engine": engine}


def reports(arguments: argparse.Namespace) -> dict[str, Any]:
    """All windows of latencies that the spools hold."""
    folders = sorted((home.default_home() / "reports").glob("*"))
    return {"windows": [json.loads(report.dump(w)) for folder in folders for w in report.Spool(folder).windows()]}


def trust(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: {"line"}; add a signer to trust/allowed_signers."""
    place = home.default_home() / "trust" / "allowed_signers"
    return {"added": verify.trust(place, str(_stdin()["line"]))}


def _app(place: Path, name: str) -> dict[str, Any]:
    pointers = {}
    for pointer in ("current", "previous"):
        digest = releases.pointed(place, name, pointer)
        try:
            pointers[pointer] = _release(releases.find(place, name, digest)) if digest else None
        except EdgekitError as error:
            pointers[pointer] = {"digest": digest, "error": error.as_dict()}
    return {"app": name, **pointers}


def _release(release: releases.Release) -> dict[str, Any]:
    m = release.bundle.manifest
    facts = {"app": m.app, "version": m.version, "sequence": m.sequence, "target": m.target}
    model = {"format": m.format, "precision": m.precision}
    return {"digest": release.digest, **facts, **model, "state": asdict(release.state)}


def _stdin() -> dict[str, Any]:
    try:
        document = json.loads(sys.stdin.buffer.read(STDIN_BYTES))
    except ValueError as error:
        raise DeviceError(f"standard input is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise DeviceError("standard input is no JSON object")
    return document


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("edgekit-runtime", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, action: Callable[[argparse.Namespace], dict[str, Any]], *arguments: str) -> None:
        command = commands.add_parser(name, help=(action.__doc__ or "").partition("\n")[0])
        for argument in arguments:
            command.add_argument(argument, required=True) if argument.startswith("-") else command.add_argument(
                argument
            )
        command.set_defaults(action=action)

    add("missing", missing)
    add("install", install)
    add("prove", prove, "app", "digest")
    add("activate", activate, "app", "digest")
    add("rollback", rollback, "app")
    add("status", status)
    add("run", run, "app", "--input", "--output")
    add("report", reports)
    add("trust", trust)
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    try:
        answer, code = {"schema_version": 1, **arguments.action(arguments)}, 0
    except EdgekitError as error:
        answer, code = {"schema_version": 1, "error": error.as_dict()}, error.exit_code
    except (KeyError, TypeError, ValueError) as error:
        answer, code = {"schema_version": 1, "error": DeviceError(f"bad request: {error!r}").as_dict()}, 1
    except OSError as error:
        answer, code = {"schema_version": 1, "error": DeviceError(_disk_trouble(error)).as_dict()}, 1
    print(json.dumps(answer))
    return code


def _disk_trouble(error: OSError) -> str:
    return f"{error.strerror or error}: {error.filename or 'the disk of this device'}"


if __name__ == "__main__":
    sys.exit(main())
