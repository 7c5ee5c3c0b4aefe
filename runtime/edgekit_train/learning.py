"""Learning: from a task to an update, on what this device has kept, by the release that serves here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Mapping

import numpy as np

from edgekit_runtime import releases, serving
from edgekit_runtime.errors import EdgekitError, InvalidInput
from edgekit_runtime.session import Session
from edgekit_train import family, fitting, update
from edgekit_train.clipping import clip
from edgekit_train.compression import compress
from edgekit_train.noise import noised
from edgekit_train.samples import Samples
from edgekit_train.trainer import TrainingFailed
from edgekit_train.update import MOST_COUNTED, Update
from edgekit_train.usable import Usable

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_runtime.releases import Release
    from edgekit_train.fitting import Work
    from edgekit_train.packed import Packed
    from edgekit_train.task import Task
    from edgekit_train.trainer import Fitted
    from edgekit_train.update import Weights


@dataclass(frozen=True)
class Learned:
    """The bytes of an update, and what it has left out; None where nothing is ever left out."""

    update: bytes
    residual: Weights | None = None


class Untold(TrainingFailed):
    """Nothing was learned for a task that hides what samples are here, as the reason could tell of them. This device
    alone has it, as the cause.
    """


@dataclass(frozen=True)
class _Sent:
    delta: Weights
    packed: Mapping[str, Packed] = field(default_factory=dict)
    residual: Weights | None = None


def learn(home: Path, task: Task, residual: Weights) -> Learned:
    """``residual``: what earlier updates of this kind have left out, {} for nothing. Nothing is written.

    Raises: TrainingFailed, InvalidInput, NotInstalled, BundleError, EngineError.
    """
    release = _release(home, task)
    with _session(home, release) as session:
        work = fitting.Work(task.trainer, session, release.bundle)
        try:
            return _learned(home, task, release, work, session, residual)
        except (EdgekitError, OSError) as error:
            if task.noise is None and task.secure is None:
                raise
            hint = "log in there: audit.log in its home has the reason"
            raise Untold(f"{task.app}: nothing was learned, and why is told on the device alone", hint) from error


def initial(home: Path, app: str, trainer: str) -> tuple[Release, Weights]:
    """What a trainer begins with for the release that is live. Raises: as ``learn``."""
    release = releases.current(home, app)
    with _session(home, release) as session:
        return release, fitting.Work(trainer, session, release.bundle).init()


def _session(home: Path, release: Release) -> Session:
    return Session.later(lambda: serving.untold(home, release), release.bundle.manifest.interface)


def _learned(home: Path, task: Task, release: Release, work: Work, session: Session, residual: Weights) -> Learned:
    started = time.monotonic()
    fitted = _fitted(home, task, work, session)
    seconds = {"seconds": round(time.monotonic() - started, 3)}
    try:
        delta, metrics = _bounded(fitted, task)
        sent = _compressed(delta, task, residual)
        names = (task.app, release.digest, task.round, task.device)
        whole = Update(*names, min(fitted.examples, MOST_COUNTED), sent.delta, {**seconds, **metrics})
        return Learned(update.dump(whole, sent.packed), sent.residual)
    except ValueError as error:
        raise TrainingFailed(f"what trainer {task.trainer!r} gave is no update: {error}") from error


def _release(home: Path, task: Task) -> Release:
    """The live one, which the task has to be for: of another model the features are others."""
    found = releases.current(home, task.app)
    if (live := family.of(found.bundle.manifest, found.digest)) != task.family:
        asked, serves = family.told(task.family), family.told(live)
        raise TrainingFailed(
            f"{task.app}: the round is of {asked}, live here is {serves}",
            "push a release of the round's model, or start a round of this one",
        )
    return found


def _fitted(home: Path, task: Task, work: Work, session: Session) -> Fitted:
    kept = Samples(task.app, home)
    if next(iter(kept), None) is None:
        raise TrainingFailed(f"{task.app}: this device has kept no samples", "keep some: edgekit_train.samples.Samples")
    usable = Usable(session, kept, by_features=work.kind.features)
    try:
        return work.fit(task.weights, usable, task.config)
    except InvalidInput as error:
        if usable.taken or not usable.passed:
            raise
        raise TrainingFailed(f"{task.app}: none of {usable.passed} samples fits the model that is live") from error


def _bounded(fitted: Fitted, task: Task) -> tuple[Weights, dict[str, float]]:
    """The delta, clipped and noised as asked, and what is told of the training: nothing where noise is to hide that."""
    if task.clip is None:
        return fitted.delta, fitted.metrics
    clipped = clip(fitted.delta, task.clip)
    if task.noise is None:
        return clipped.delta, {**fitted.metrics, "clipped": float(not clipped.whole)}
    return noised(clipped.delta, task.noise), {}


def _compressed(delta: Weights, task: Task, residual: Weights) -> _Sent:
    if task.compression is None:
        return _Sent(delta)
    done = compress(delta, task.compression, residual, np.random.default_rng())
    return _Sent(done.delta, done.packed, done.residual)
