"""Commands: what the device's side of a push does for each word; an answer is one JSON object."""

from __future__ import annotations

import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edgekit_runtime
from edgekit_runtime import (
    activation,
    answers,
    attempts,
    audit,
    dialogue,
    fields,
    home,
    host,
    probe,
    releases,
    reporting,
    service,
    switches,
    watched,
)
from edgekit_runtime import trust as trusting
from edgekit_runtime import why as reasons
from edgekit_runtime.errors import DeviceError, InvalidInput

if TYPE_CHECKING:
    import argparse


def push(arguments: argparse.Namespace) -> dict[str, Any]:
    """Take in a release of an app, line by line with a host ("What goes over in a push", docs/reference/formats.md)."""
    return dialogue.push(home.default_home(), arguments.app)


def prove(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a release's golden vectors here, as declared or with the first safer setting that holds."""
    place = home.default_home()
    return answers.of_release(attempts.settle(place, releases.find(place, arguments.app, arguments.digest)))


def activate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Switch current to a proven release; the app's service starts again, and old releases go."""
    how = {"keep": int(arguments.keep), "allow_downgrade": arguments.allow_downgrade}
    return activation.activate(home.default_home(), arguments.app, arguments.digest, **how)


def rollback(arguments: argparse.Namespace) -> dict[str, Any]:
    """Switch current back to previous; the app's service starts again. By a rule of the host's: with its reason."""
    place, app = home.default_home(), arguments.app
    by_rule = {"code": switches.BY_RULE, "reason": arguments.rule} if arguments.rule else {}
    with audit.told(place, "rollback", app=app, **by_rule) as told:
        how = by_rule or {"reason": "rolled back by hand"}
        release = switches.rollback(place, app, **how, leaving=arguments.leaving)
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


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the live release for as long as a host asks; nothing of it is recorded."""
    return watched.bench(home.default_home(), arguments.app)


def reports(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was measured here. Standard input: {"have": {SESSION: SEQ}}, where the host has some of it already."""
    return reporting.report(home.default_home(), host.line() or {})


def trust(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: {"line"}; add a signer to trust/allowed_signers."""
    place, line = home.default_home(), fields.text(host.whole()["line"])
    with audit.told(place, "trust", signer=line) as told, home.locked(place, "a change of trust"):
        told["changed"] = trusting.add(trusting.file(place), line)
    return {"added": told["changed"]}


def revoke(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: {"key"}; trust a public key no more, by trust/revoked_signers."""
    place, key = home.default_home(), fields.text(host.whole()["key"])
    with audit.told(place, "revoke", signer=key) as told, home.locked(place, "a change of trust"):
        told["changed"] = trusting.revoke(trusting.file(place), key)
    return {"revoked": told["changed"]}


def signers(arguments: argparse.Namespace) -> dict[str, Any]:
    """Whose signatures this device takes, and whose no more."""
    return {"signers": [asdict(each) for each in trusting.signers(trusting.file(home.default_home()))]}


def enrol(arguments: argparse.Namespace) -> dict[str, Any]:
    """Standard input: {"url", "token", "certificate", "pinned"}; deliver what is measured there from now on."""
    answer: dict[str, Any] = _courier().enrol(home.default_home(), host.whole())
    return answer


def deliver(arguments: argparse.Namespace) -> dict[str, Any]:
    """Deliver what was measured to who collects it, every few minutes or once."""
    answer: dict[str, Any] = _courier().deliver(home.default_home(), once=arguments.once)
    return answer


def _courier() -> Any:
    try:
        return import_module("edgekit_courier.words")
    except ImportError as error:
        hint = "bring it: edgekit device setup NAME --service 'edgekit-runtime deliver'"
        raise DeviceError(f"the courier is not installed here ({error})", hint) from error


def serve(arguments: argparse.Namespace) -> dict[str, Any]:
    """Serve apps over HTTP; 'serve --help' tells how."""
    try:
        main = import_module("edgekit_server.__main__").main
    except ImportError as error:
        hint = "bring it: edgekit device setup NAME --server"
        raise DeviceError(f"the server is not installed here ({error})", hint) from error
    main(arguments.words)
    return {}
