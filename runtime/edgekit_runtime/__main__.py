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
from edgekit_runtime import bundle, fields, home, incoming, releases, report, verify
from edgekit_runtime.errors import DeviceError, EdgekitError, InvalidInput, ProofFailed

STDIN_BYTES = 8 << 20


def missing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: {"blobs": [descriptor, …]}; which of them to send, and to where: a folder for this push."""
    place = home.default_home()
    documents = fields.items(_stdin()["blobs"])
    blobs = [bundle.Descriptor.of(fields.table(document), bundle.LARGE) for document in documents]
    folder, lacking = releases.missing(place, blobs)
    return {"missing": [blob.digest for blob in lacking], "incoming": str(folder)}


def install(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: {"digest", "signature", "incoming"}; take in what has been sent there."""
    document, place = _stdin(), home.default_home()
    digest, signature = fields.text(document["digest"]), fields.text(document["signature"])
    folder = incoming.named(place, fields.text(document["incoming"]))
    return _release(releases.install(place, folder, digest, signature))


def prove(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a release's golden vectors here."""
    from edgekit_runtime import prove as proving

    place = home.default_home()
    release = releases.find(place, arguments.app, arguments.digest)
    proof = proving.prove(release.bundle)
    if not proof.ok:
        releases.judged(place, release, "bad", reason="; ".join(proof.reasons), proof=proof.as_dict())
        raise ProofFailed(f"{arguments.app}: not proven on this device: {'; '.join(proof.reasons)}")
    return _release(releases.judged(place, release, "proven", proof=proof.as_dict()))


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
    from edgekit_runtime import arrays

    try:
        inputs = arrays.load(Path(arguments.input).read_bytes())
    except ValueError as error:
        raise InvalidInput(f"the input cannot be read: {error}", "give an .npz with one array per input") from error
    with edgekit_runtime.load(arguments.app) as session:
        started = time.perf_counter()
        outputs: dict[str, Any] = session.predict(
            inputs["x"] if list(inputs) == ["x"] and len(session.interface.inputs) == 1 else inputs
        )
        elapsed = time.perf_counter() - started
        engine = {"name": session.engine.name, "version": session.engine.version, "provider": session.engine.provider}
    Path(arguments.output).write_bytes(arrays.dump(outputs))
    return {"app": arguments.app, "latency_ms": elapsed * 1e3, "engine": engine}


def timed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time the models in a folder side by side."""
    from edgekit_runtime import timing

    return {"models": timing.time_models(Path(arguments.folder))}


def weigh(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the memory that a model needs, in this process."""
    from edgekit_runtime import weighing

    return {"peak_bytes": weighing.peak_bytes(Path(arguments.manifest))}


def reports(arguments: argparse.Namespace) -> dict[str, Any]:
    """All windows of latencies that the spools hold."""
    folders = sorted((home.default_home() / "reports").glob("*"))
    return {"windows": [json.loads(report.dump(w)) for folder in folders for w in report.Spool(folder).windows()]}


def trust(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: {"line"}; add a signer to trust/allowed_signers."""
    place, line = home.default_home(), fields.text(_stdin()["line"])
    with home.locked(place, "device setup"):
        return {"added": verify.trust(place / "trust" / "allowed_signers", line)}


def _app(place: Path, name: str) -> dict[str, Any]:
    return {"app": name, **{pointer: _pointed(place, name, pointer) for pointer in ("current", "previous")}}


def _pointed(place: Path, name: str, pointer: str) -> dict[str, Any] | None:
    digest = releases.pointed(place, name, pointer)
    if not digest:
        return None
    try:
        release = releases.find(place, name, digest)
        release.bundle.check()
    except EdgekitError as error:
        return {"digest": digest, "error": error.as_dict()}
    return _release(release)


def _release(release: releases.Release) -> dict[str, Any]:
    m = release.bundle.manifest
    facts = {"app": m.app, "version": m.version, "sequence": m.sequence, "target": m.target}
    model = {"format": m.format, "precision": m.precision}
    return {"digest": release.digest, **facts, **model, "state": asdict(release.state)}


def _stdin() -> dict[str, Any]:
    data = sys.stdin.buffer.read(STDIN_BYTES + 1)
    if len(data) > STDIN_BYTES:
        raise DeviceError(f"standard input holds more than {STDIN_BYTES >> 20} MiB")
    try:
        return fields.load(data)
    except ValueError as error:
        raise DeviceError(f"standard input is no JSON object: {error}") from error


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
    add("time", timed, "folder")
    add("weigh", weigh, "manifest")
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
    print(json.dumps(answer, allow_nan=False))
    return code


def _disk_trouble(error: OSError) -> str:
    return f"{error.strerror or error}: {error.filename or 'the disk of this device'}"


if __name__ == "__main__":
    sys.exit(main())
