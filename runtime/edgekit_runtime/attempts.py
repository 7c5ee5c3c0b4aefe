"""Attempts: a release's proof as declared, then with safer settings until one holds, each in a process of its own:

    python -m edgekit_runtime.attempts APP DIGEST < {"setting": … or null}

A kernel that fails may take its process with it, so the one that tries is not the one that decides. What it printed
holds, however it ends: a line of JSON with the proof or the error; then, as declared, one with what is fastest here.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit_runtime import blackbox, fields, probe, processes, releases
from edgekit_runtime.errors import (
    BundleError,
    EdgekitError,
    EngineNotInstalled,
    InvalidInput,
    NotInstalled,
    ProofFailed,
)
from edgekit_runtime.home import default_home
from edgekit_runtime.setting import Tuned, ladder, pinned

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_runtime.releases import Release
    from edgekit_runtime.setting import Setting

CPU = ("CPUExecutionProvider", "XNNPACK", "cpu")
"""Providers to which threads and cores matter."""
ALL_S = 280.0
"""For all attempts together; a host waits 300 seconds for an answer."""
_BUNDLE: list[type[EdgekitError]] = [BundleError, *BundleError.__subclasses__()]
_HOPELESS: list[type[EdgekitError]] = [*_BUNDLE, EngineNotInstalled, InvalidInput, NotInstalled]
HOPELESS = {kind.code: kind for kind in _HOPELESS}
"""Errors that no other setting makes good."""


@dataclass(frozen=True)
class Attempt:
    """``proof`` is what the vectors gave; where they gave nothing ``error`` says why, and ``tail`` how it ended."""

    proof: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    tail: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.proof.get("ok") is True

    @property
    def reason(self) -> str:
        return "; ".join(self.proof["reasons"]) if self.proof else str(self.error["message"])


@dataclass(frozen=True)
class Outcome:
    """``proof`` is the one to keep; ``failures`` are of what was tried before it, ``tail`` of the first of them."""

    proof: dict[str, Any]
    failures: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()


def settle(home: Path, release: Release) -> Release:
    """The release, proven as declared or with the first safer setting that holds; what was tried is in the black box.

    Raises: ProofFailed, after it has been marked bad; else as prove and releases.judged.
    """
    app, outcome = release.bundle.manifest.app, prove(release)
    ok, reason = outcome.proof["ok"], "; ".join(outcome.failures)
    if outcome.failures:
        more = {"code": ProofFailed.code, "reason": reason, "tail": list(outcome.tail)}
        blackbox.note(home, app, blackbox.event("pinned" if ok else "proof_failed", release.digest, **more))
    if ok:
        return releases.judged(home, release, "proven", proof=outcome.proof)
    releases.judged(home, release, "bad", code=ProofFailed.code, reason=reason, proof=outcome.proof)
    raise ProofFailed(f"{app}: not proven on this device: {reason}")


def prove(release: Release) -> Outcome:
    """Raises: BundleError and its kin, EngineNotInstalled, InvalidInput: what no setting makes good."""
    until = time.monotonic() + ALL_S
    first = _attempt(release, None, until)
    if first.error.get("code") in HOPELESS:
        raise HOPELESS[first.error["code"]](str(first.error["message"]), first.error.get("hint"))
    if first.ok:
        return Outcome(first.proof)
    failures = [first.reason]
    for setting in ladder(release.bundle.manifest.engines):
        tried = _attempt(release, setting, until)
        if tried.ok:
            note = f"pinned to {setting}: as declared, {first.reason}"
            how = {"setting": setting.as_dict(), "note": note, "degraded": note}
            return Outcome({**tried.proof, **how}, tuple(failures), first.tail)
        if tried.error.get("code") != EngineNotInstalled.code:
            failures.append(f"{setting}: {tried.reason}")
    return Outcome({**first.proof, "ok": False, "reasons": failures}, tuple(failures), first.tail)


def _attempt(release: Release, setting: Setting | None, until: float) -> Attempt:
    """One in a fresh process, which may crash or hang."""
    command = [sys.executable, *(["-I"] if sys.flags.isolated else []), "-m", "edgekit_runtime.attempts"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # the engine's threads are proven, not those of numpy
    asked = json.dumps({"setting": setting and setting.as_dict()}).encode()
    seconds = max(0.0, until - time.monotonic())
    try:
        done = subprocess.run(
            [*command, release.bundle.manifest.app, release.digest],
            input=asked,
            capture_output=True,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _failed(f"it did not end within {ALL_S:g} s", b"")
    try:
        answer, *more = map(fields.load, done.stdout.splitlines())
    except ValueError:
        return _failed(f"the engine crashed ({processes.ending(done.returncode)})", done.stderr)
    tuned = {"tuned": more[0]["tuned"]} if more and "tuned" in more[0] else {}
    return Attempt({**answer["proof"], **tuned}) if "proof" in answer else Attempt(error=answer["error"])


def _failed(reason: str, stderr: bytes) -> Attempt:
    return Attempt(error={"message": reason}, tail=tuple(blackbox.tail(stderr.decode(errors="replace"))))


def main() -> int:
    """One, in this process."""
    from edgekit_runtime.prove import prove
    from edgekit_runtime.serving import cache

    app, digest = sys.argv[1:]
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("900")  # when the memory runs out, this goes before what serves (proc(5))
    try:
        home = default_home()
        release, setting = releases.find(home, app, digest), pinned(fields.load(sys.stdin.buffer.read()))
        proof = prove(release.bundle, setting, cache(home, release.bundle))
        _say("proof", proof.as_dict())
        if proof.ok and setting is None and proof.provider in CPU and not probe.emulated():
            _say("tuned", _fastest(home, release, proof.engine.partition(" ")[0]).as_dict())
    except EdgekitError as error:
        _say("error", error.as_dict())
        return error.exit_code
    return 0


def _fastest(home: Path, release: Release, engine: str) -> Tuned:
    """What runs the model fastest here, and answers as it must. Raises: BundleError, EngineError."""
    from edgekit_runtime import engines, golden, serving, tuning
    from edgekit_runtime.prove import prove

    bundle = release.bundle
    model, cache = serving.model(bundle), serving.cache(home, bundle)
    declared = Tuned(engine, next((need.threads for need in bundle.manifest.engines if need.name == engine), 1))
    feeds = bundle.manifest.interface.feeds(golden.of_bundle(bundle)[0].inputs)
    best = tuning.tune(
        lambda way: engines.load(model, *serving.asked(bundle, way, cache)), feeds, declared, tuning.choices(declared)
    )
    return best if best == declared or prove(bundle, best, cache).ok else declared


def _say(key: str, value: object) -> None:
    print(json.dumps({key: value}, allow_nan=False), flush=True)


if __name__ == "__main__":
    sys.exit(main())
