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
from edgekit_runtime import (
    admission,
    attempts,
    audit,
    bundle,
    collect,
    fields,
    home,
    incoming,
    receiving,
    releases,
    report,
    service,
    similar,
    switches,
)
from edgekit_runtime import trust as trusting
from edgekit_runtime import why as reasons
from edgekit_runtime.errors import DeviceError, EdgekitError, InvalidInput
from edgekit_runtime.setting import pinned

STDIN_BYTES = 8 << 20


def missing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: {"blobs": [descriptor, …], "known": [digest's beginning, …]}; which of them to send and to where.

    That is a folder for this push. ``kept``: what it has already of them; ``bases``: what they may build upon.
    """
    place, document = home.default_home(), _stdin()
    documents = fields.items(document["blobs"])
    known = [fields.text(each) for each in fields.items(document.get("known", []))]
    blobs = [bundle.Descriptor.of(fields.table(document), bundle.LARGE) for document in documents]
    try:
        folder, lacking = releases.missing(place, blobs)
    except DeviceError:  # no room for them: without the release that is kept for convenience there may be
        collect.tidy(place, collect.LEAST)
        folder, lacking = releases.missing(place, blobs)
    kept = [each for each in (receiving.kept(folder, blob) for blob in lacking) if each]
    names = [blob.digest for blob in lacking]
    return {
        "missing": names,
        "incoming": str(folder),
        "kept": kept,
        "bases": similar.bases(place, lacking, known),
    }


def install(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: {"digest", "signature", "incoming", "blobs", "bases", "allow_downgrade"} on a line, then frames.

    Take in what comes, and what is there already.
    """
    document, place = _line(), home.default_home()
    digest, signature = fields.text(document["digest"]), fields.text(document["signature"])
    older = document.get("allow_downgrade") is True
    with audit.told(place, "install", digest=digest) as told:
        folder = incoming.named(place, fields.text(document["incoming"]))
        receiving.receive(place, folder, receiving.Order.of(document), sys.stdin.buffer)
        release = releases.install(place, folder, digest, signature, allow_downgrade=older)
        told.update(app=release.bundle.manifest.app, signer=release.state.signer)
    return _release(release)


def prove(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a release's golden vectors here, as declared or with the first safer setting that holds."""
    place = home.default_home()
    return _release(attempts.settle(place, releases.find(place, arguments.app, arguments.digest)))


def attempt(arguments: argparse.Namespace) -> dict[str, Any]:
    """One try of prove. Standard input: {"setting"}, null for as declared."""
    from edgekit_runtime import prove as proving

    release = releases.find(home.default_home(), arguments.app, arguments.digest)
    return {"proof": proving.prove(release.bundle, pinned(_stdin())).as_dict()}


def activate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Switch current to a proven release; the app's service starts again, and old releases go."""
    place, app, digest = home.default_home(), arguments.app, arguments.digest
    with audit.told(place, "switch", app=app, digest=digest) as told:
        release = switches.activate(place, app, digest, allow_downgrade=arguments.allow_downgrade)
        told.update(signer=release.state.signer)
    started, gone = service.restart(place, app), collect.tidy(place, int(arguments.keep))
    swept = {"collected": list(gone.releases), "bytes_freed": gone.bytes_freed}
    return {**_release(release), **swept, "restarted": started or None}


def rollback(arguments: argparse.Namespace) -> dict[str, Any]:
    """Switch current back to previous; the app's service starts again."""
    place, app = home.default_home(), arguments.app
    with audit.told(place, "rollback", app=app) as told:
        release = switches.rollback(place, app, "rolled back by hand")
        told.update(digest=release.digest, signer=release.state.signer)
    return {**_release(release), "restarted": service.restart(place, app) or None}


def confirm(arguments: argparse.Namespace) -> dict[str, Any]:
    """End the trial of current: it is good."""
    place = home.default_home()
    return _release(switches.confirm(place, arguments.app, releases.current(place, arguments.app).digest))


def status(arguments: argparse.Namespace) -> dict[str, Any]:
    """What this device runs."""
    place = home.default_home()
    return {
        "runtime": edgekit_runtime.__version__,
        "home": str(place),
        "apps": [_app(place, name) for name in releases.apps(place)],
    }


def why(arguments: argparse.Namespace) -> dict[str, Any]:
    """Why this device runs what it runs: its apps, or the one that is named, with what the black box holds."""
    place = home.default_home()
    names = [arguments.app] if arguments.app else releases.apps(place)
    apps = [
        {**_app(place, name), "latency": reasons.latency(place, name), "events": reasons.events(place, name)}
        for name in names
    ]
    return {"apps": apps}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """One inference: arrays by input name from an .npz (``x`` for a single input), outputs to an .npz."""
    from edgekit_runtime import arrays, probe

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
    latency = None if probe.emulated() else elapsed * 1e3
    return {"app": arguments.app, "latency_ms": latency, "engine": engine}


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
    with audit.told(place, "trust", signer=line) as told, home.locked(place, "a change of trust"):
        told["changed"] = trusting.add(trusting.file(place), line)
    return {"added": told["changed"]}


def revoke(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: {"key"}; trust a public key no more, by trust/revoked_signers."""
    place, key = home.default_home(), fields.text(_stdin()["key"])
    with audit.told(place, "revoke", signer=key) as told, home.locked(place, "a change of trust"):
        told["changed"] = trusting.revoke(trusting.file(place), key)
    return {"revoked": told["changed"]}


def signers(arguments: argparse.Namespace) -> dict[str, Any]:
    """Whose signatures this device takes, and whose no more."""
    return {"signers": [asdict(each) for each in trusting.signers(trusting.file(home.default_home()))]}


def _app(place: Path, name: str) -> dict[str, Any]:
    pointers = {pointer: _pointed(place, name, pointer) for pointer in ("current", "previous")}
    kept = {"highest": admission.highest(place, name), "left": reasons.left(place, name)}
    return {"app": name, **kept, **pointers}


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
    trial = reasons.trial_of(home.default_home(), release)
    return {"digest": release.digest, **facts, **model, "state": asdict(release.state), "trial": trial}


def _stdin() -> dict[str, Any]:
    return _object(sys.stdin.buffer.read(STDIN_BYTES + 1))


def _line() -> dict[str, Any]:
    return _object(sys.stdin.buffer.readline(STDIN_BYTES + 1))


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > STDIN_BYTES:
        raise DeviceError(f"standard input holds more than {STDIN_BYTES >> 20} MiB")
    try:
        return fields.load(data)
    except ValueError as error:
        raise DeviceError(f"standard input is no JSON object: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("edgekit-runtime", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, action: Callable[[argparse.Namespace], dict[str, Any]], *arguments: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=(action.__doc__ or "").partition("\n")[0])
        for argument in arguments:
            name, _, default = argument.partition("=")
            optional: dict[str, Any] = {"default": default} if default else {"required": True}
            command.add_argument(name, **(optional if name.startswith("-") else {}))
        command.set_defaults(action=action)
        return command

    add("missing", missing)
    add("install", install)
    add("prove", prove, "app", "digest")
    add("attempt", attempt, "app", "digest")
    switch = add("activate", activate, "app", "digest", f"--keep={collect.KEEP}")
    switch.add_argument("--allow-downgrade", action="store_true")
    add("confirm", confirm, "app")
    add("rollback", rollback, "app")
    add("status", status)
    add("why", why).add_argument("app", nargs="?")
    add("run", run, "app", "--input", "--output")
    add("time", timed, "folder")
    add("weigh", weigh, "manifest")
    add("report", reports)
    add("trust", trust)
    add("revoke", revoke)
    add("signers", signers)
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
