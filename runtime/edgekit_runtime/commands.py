"""Commands: what the device's side of a push does for each word; an answer is one JSON object."""

from __future__ import annotations

import json
import select
import shutil
import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edgekit_runtime
from edgekit_runtime import (
    answers,
    attempts,
    audit,
    bundle,
    collect,
    fields,
    home,
    incoming,
    probe,
    receiving,
    releases,
    report,
    service,
    similar,
    switches,
)
from edgekit_runtime import trust as trusting
from edgekit_runtime import why as reasons
from edgekit_runtime.errors import DeviceError, InvalidInput
from edgekit_runtime.setting import pinned

if TYPE_CHECKING:
    import argparse

STDIN_BYTES = 8 << 20


def missing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: {"blobs": [descriptor, …], "known": [digest's beginning, …]}; which of them to send and to where.

    That is a folder for this push. ``kept``: what it has already of them; ``bases``: what they may build upon;
    ``facts``: what this machine is.
    """
    place, document = home.default_home(), _stdin()
    documents = fields.items(document["blobs"])
    known = [fields.text(each) for each in fields.items(document.get("known", []))]
    blobs = [bundle.Descriptor.of(fields.table(document), bundle.LARGE) for document in documents]
    try:
        folder, lacking = releases.missing(place, blobs)
    except releases.NoRoom:  # without the release that is kept for convenience there may be
        collect.tidy(place, collect.LEAST)
        folder, lacking = releases.missing(place, blobs)
    kept = [each for each in (receiving.kept(folder, blob) for blob in lacking) if each]
    names = [blob.digest for blob in lacking]
    if not _awaited():  # a place that was made after its connection had gone would belong to nobody
        shutil.rmtree(folder, ignore_errors=True)
        raise DeviceError("the host that asked has gone", "push again")
    return {
        "missing": names,
        "incoming": str(folder),
        "kept": kept,
        "bases": similar.bases(place, lacking, known),
        "facts": probe.probe(),
    }


def install(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: a line of JSON ("What goes over in a push", docs/reference/formats.md), then frames.

    Take in what comes, and what is there already; with ``live`` prove it and switch to it, too.
    """
    document, place = _line(), home.default_home()
    digest, signature = fields.text(document["digest"]), fields.text(document["signature"])
    older = document.get("allow_downgrade") is True
    with audit.told(place, "install", digest=digest) as told:
        folder = incoming.named(place, fields.text(document["incoming"]))
        signer = receiving.receive(place, folder, receiving.Order.of(document), sys.stdin.buffer)
        release = releases.install(place, folder, digest, signature, signer=signer, allow_downgrade=older)
        told.update(app=release.bundle.manifest.app, signer=signer)
    if document.get("live") is not True:
        return answers.of_release(release)
    proven = attempts.settle(place, release)
    if not _awaited():
        raise DeviceError("the host that pushed has gone", "push it again, and the release goes live")
    return _switched(proven.bundle.manifest.app, digest, collect.KEEP, allow_downgrade=older)


def prove(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a release's golden vectors here, as declared or with the first safer setting that holds."""
    place = home.default_home()
    return answers.of_release(attempts.settle(place, releases.find(place, arguments.app, arguments.digest)))


def attempt(arguments: argparse.Namespace) -> dict[str, Any]:
    """One try of prove. Standard input: {"setting"}, null for as declared."""
    from edgekit_runtime import prove as proving

    release = releases.find(home.default_home(), arguments.app, arguments.digest)
    return {"proof": proving.prove(release.bundle, pinned(_stdin())).as_dict()}


def activate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Switch current to a proven release; the app's service starts again, and old releases go."""
    how = {"allow_downgrade": arguments.allow_downgrade}
    return _switched(arguments.app, arguments.digest, int(arguments.keep), **how)


def _switched(app: str, digest: str, keep: int, *, allow_downgrade: bool) -> dict[str, Any]:
    place = home.default_home()
    with audit.told(place, "switch", app=app, digest=digest) as told:
        release = switches.activate(place, app, digest, allow_downgrade=allow_downgrade)
        told.update(signer=release.state.signer)
    started, gone = service.restart(place, app), collect.tidy(place, keep)
    swept = {"collected": list(gone.releases), "bytes_freed": gone.bytes_freed}
    return {**answers.of_release(release), **swept, "restarted": started or None}


def rollback(arguments: argparse.Namespace) -> dict[str, Any]:
    """Switch current back to previous; the app's service starts again."""
    place, app = home.default_home(), arguments.app
    with audit.told(place, "rollback", app=app) as told:
        release = switches.rollback(place, app, "rolled back by hand")
        told.update(digest=release.digest, signer=release.state.signer)
    return {**answers.of_release(release), "restarted": service.restart(place, app) or None}


def confirm(arguments: argparse.Namespace) -> dict[str, Any]:
    """End the trial of current: it is good."""
    place = home.default_home()
    return answers.of_release(switches.confirm(place, arguments.app, releases.current(place, arguments.app).digest))


def status(arguments: argparse.Namespace) -> dict[str, Any]:
    """What this device runs."""
    place = home.default_home()
    return {
        "runtime": edgekit_runtime.__version__,
        "home": str(place),
        "apps": [answers.of_app(place, name) for name in releases.apps(place)],
    }


def why(arguments: argparse.Namespace) -> dict[str, Any]:
    """Why this device runs what it runs: its apps, or the one that is named, with what the black box holds."""
    place = home.default_home()
    names = [arguments.app] if arguments.app else releases.apps(place)
    apps = [
        {**answers.of_app(place, name), "latency": reasons.latency(place, name), "events": reasons.events(place, name)}
        for name in names
    ]
    return {"apps": apps}


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


def _awaited() -> bool:
    """Whether somebody still reads what this command prints; who has let go of a push gets no switch."""
    poll = select.poll()
    poll.register(1, 0)  # errors and hang-ups are told always
    return not poll.poll(0)


def serve(arguments: argparse.Namespace) -> dict[str, Any]:
    """Serve apps over HTTP; 'serve --help' tells how."""
    try:
        main = import_module("edgekit_server.__main__").main
    except ImportError as error:
        hint = "bring it: edgekit device setup NAME --server"
        raise DeviceError(f"the server is not installed here ({error})", hint) from error
    main(arguments.words)
    return {}


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
