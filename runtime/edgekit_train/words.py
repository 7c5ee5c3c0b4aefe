"""The words of ``python -m edgekit_train``: what a host asks of a device that learns; an answer is one JSON object."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

from edgekit_runtime import audit, durable, releases, trust, verify
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.home import held
from edgekit_train import device_key, family, learning, prints, task, tensor_file, update
from edgekit_train.fitting import MOST_INIT
from edgekit_train.round_files import MOST, RoundFiles
from edgekit_train.trainer import TrainingFailed

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit_train.learning import Learned
    from edgekit_train.task import Task
    from edgekit_train.update import Weights


def key(home: Path) -> dict[str, Any]:
    """The device's public key; made where there is none. Raises: DeviceError, OSError."""
    return {"public": device_key.public(home)}


def live(home: Path) -> dict[str, Any]:
    """The apps that are live on this device, each with its release and the family of that; or why it has none."""
    return {"apps": [{"app": app, **_live(home, app)} for app in releases.apps(home)]}


def _live(home: Path, app: str) -> dict[str, Any]:
    try:
        found = releases.current(home, app)
    except EdgekitError as error:
        return {"error": error.as_dict()}
    return {"release": found.digest, "family": family.of(found.bundle.manifest, found.digest)}


def init(home: Path, app: str, trainer: str) -> dict[str, Any]:
    """The weights that a trainer begins with where nobody sends any, by what is live. Raises: as ``learn``."""
    with prints.aside():
        release, weights = learning.initial(home, app, trainer)
    data = tensor_file.dump(weights, {})
    if len(data) > MOST_INIT:
        much = f"trainer {trainer!r} begins with {len(data)} bytes, where at most {MOST_INIT} are sent"
        raise TrainingFailed(much, "edgekit round start --from FILE.safetensors")
    told = family.of(release.bundle.manifest, release.digest)
    return {"release": release.digest, "family": told, "weights": base64.b64encode(data).decode()}


def learn(home: Path, app: str, round_id: str) -> dict[str, Any]:
    """Learn what the task of a round asks for; where the update is there already, tell of it.

    One at a time on a device: a second call waits, and is told the same. Raises: BundleError and its kin, DeviceError
    and its kin, EngineError, ValueError, OSError.
    """
    files = _files(home, app, round_id)
    with held(files.root):
        files.settle()
        if not files.update.exists():
            _learn(files)
            files.forget_older()
        return _told(files)


def _learn(files: RoundFiles) -> None:
    with audit.told(files.home, "learn", app=files.app, round=files.round) as told:
        asked, told["signer"] = _task(files)
        _check_way(asked, secure=False)
        done = _learned(files.home, asked, files.residual(asked) if asked.compression else {}, told)
        files.learned(asked, done.update, done.residual)


def _learned(home: Path, asked: Task, residual: Weights, told: dict[str, Any]) -> Learned:
    """Why nothing was learned stands in the log, where it is not to be told."""
    try:
        with prints.aside():
            return learning.learn(home, asked, residual)
    except learning.Untold as error:
        told["cause"] = str(error.__cause__)
        raise


def secure(home: Path, app: str, round_id: str) -> dict[str, Any]:
    """Learn, and tell it masked, in a conversation with the host. Raises: as ``learn``."""
    from edgekit_train import secure as parts  # needs more than numpy

    files = _files(home, app, round_id)
    with held(files.root), audit.told(home, "learn", app=app, round=round_id) as told:
        asked, told["signer"] = _task(files)
        _check_way(asked, secure=True)
        part = parts.Part(home, files.folder.parent, asked)
        part.check()
        done = update.parse(_learned(home, asked, {}, told).update, MOST)
        files.forget_older()
    assert asked.secure
    return part.take(asked.secure.encode(done.delta))


def forget(home: Path, app: str, round_id: str) -> dict[str, Any]:
    """Remove what a round has left here. Raises: as ``learn``."""
    files = RoundFiles(home, app, round_id)
    if not files.root.exists():
        return {"round": round_id, "forgotten": False}
    with held(files.root):
        files.settle()
        return {"round": round_id, "forgotten": files.forget()}


def _files(home: Path, app: str, round_id: str) -> RoundFiles:
    files = RoundFiles(home, app, round_id)
    durable.folder(files.root, 0o700)
    os.chmod(files.root, 0o700)  # the host may have made it
    return files


def _check_way(asked: Task, *, secure: bool) -> None:
    """Raises: TrainingFailed for a task that is to be answered otherwise."""
    if secure != (asked.secure is not None):
        told = "only as a part of a secure sum" if asked.secure else "in no secure sum"
        raise TrainingFailed(f"{asked.app}: what is learned in this round is told {told}", "start another round")


def _task(files: RoundFiles) -> tuple[Task, str]:
    """A task for this round, and who signed it: somebody whom this device trusts."""
    data, signature = files.task()
    digest = device_key.digest_of(data)
    signer = verify.verify(digest, signature, trust.file(files.home), "task")
    found = task.parse(data, MOST)
    if (found.app, found.round) != (files.app, files.round):
        raise TrainingFailed(f"the task of {files.app} is of {found.app}, round {found.round[:8]}", "send it again")
    return found, signer


def _told(files: RoundFiles) -> dict[str, Any]:
    data = durable.read(files.update, MOST)
    found, digest = update.parse(data, MOST), device_key.digest_of(data)
    public = device_key.public(files.home)
    return {
        "round": files.round,
        "release": found.release,
        "path": str(files.update.absolute()),
        "bytes": len(data),
        "digest": digest,
        "signature": _signature(files, found.device, digest, public),
        "public": public,
        "examples": found.examples,
        "seconds": found.metrics.get("seconds"),
        "metrics": found.metrics,
    }


def _signature(files: RoundFiles, device: str, digest: str, public: str) -> str:
    """Kept beside the update, so that it is made once; and anew where the device's key was made anew since.

    An update that was changed since, or is another device's, is not signed: its host refuses it.
    """
    path = files.update.with_suffix(".sig")
    if not path.exists() or (
        device_key.fits_another(public, digest, durable.read(path, MOST))
        and device == task.parse(files.task()[0], MOST).device
    ):
        durable.write(path, device_key.sign(files.home, digest).encode())
    return durable.read(path, MOST).decode()
