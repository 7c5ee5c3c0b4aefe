"""Job: a build's command line over edgekit.toml, all of it settled before any work begins."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import user_cache
from edgekit.budget import override
from edgekit.building.order import Order
from edgekit.cli.places import BUNDLES
from edgekit.errors import ConfigError
from edgekit.model import Format
from edgekit.precision import Calibrator, Precision
from edgekit.project import Project
from edgekit.project import load as load_project
from edgekit.target import Target
from edgekit.target import load as load_target
from edgekit_runtime.home import NAME


@dataclass(frozen=True)
class Job:
    """A command line over edgekit.toml, all of it settled."""

    model: Path
    targets: list[Target]
    order: Order
    signing_key: Path | None
    output: Path | None
    weights: Path | None = None
    """Of a model that is given as ``package.module:factory``."""

    def place(self, target: str) -> Path:
        """Where the bundle for a target goes."""
        if self.output is None:
            return Path(BUNDLES) / f"{self.order.app}-{target}"
        return self.output if len(self.targets) == 1 else self.output / target


def project_job(output: Path | None = None) -> Job:
    """What edgekit.toml says, and nothing else. Raises: ConfigError for what is wrong or missing in it."""
    project = load_project(Path.cwd())
    needed = {"model": project.model, "targets": project.targets}
    needed |= {"calibration": project.data.calibration, "evaluation": project.data.evaluation}
    for key, value in needed.items():
        if not value:
            raise ConfigError(f"edgekit.toml says no {key}", "write it there: 'edgekit init' shows how")
    nothing = dict.fromkeys(("targets", "lines", "precisions", "formats", "calibrators"), ())
    return read_job(None, output, {**nothing, **dict.fromkeys(("app", "calibration", "evaluation", "weights"))})


def read_job(model: Path | None, output: Path | None, flags: dict[str, Any]) -> Job:
    """Raises: ConfigError for what is wrong in the file or missing in both."""
    project = load_project(Path.cwd())
    path = model or Path(_given(project.model, "model", "edgekit build MODEL"))
    names = flags["targets"] or _given(project.targets, "target", "--target pi")
    targets = list(dict.fromkeys(load_target(name) for name in names))
    order = Order(
        app=_checked(flags["app"]) or project.app or _app_name(Path(str(path).rpartition(":")[2])),
        version=project.version,
        calibration=flags["calibration"] or _given(project.data.calibration, "calibration data", "--calibration"),
        evaluation=flags["evaluation"] or _given(project.data.evaluation, "evaluation data", "--evaluation"),
        base=Path.cwd(),
        now_s=int(time.time()),
        budget=override(project.budget, flags["lines"]),
        preprocess={name: table.value() for name, table in project.preprocess.items()},
        agreement={name: table.value() for name, table in project.agreement.items()},
        shapes={name: table.sizes() for name, table in project.inputs.items()},
        precisions=tuple(map(Precision, flags["precisions"])),
        formats=tuple(map(Format, flags["formats"])),
        calibrators=tuple(map(Calibrator, flags["calibrators"])),
        cache=user_cache.path("steps"),
        expires_days=project.expires_days,
        shadow=project.shadow,
        features=project.features,
    )
    key = Path(project.signing_key).expanduser() if project.signing_key else None
    return Job(path, targets, order, key, output, flags["weights"] or _weights(project, model))


def _weights(project: Project, model: Path | None) -> Path | None:
    """The file's weights belong to the file's model."""
    return Path(project.weights) if project.weights and model is None else None


def _given(value: Any, what: str, flag: str) -> Any:
    if not value:
        raise ConfigError(f"no {what} given", f"use {flag}, or write it into edgekit.toml")
    return value


def _checked(app: str | None) -> str | None:
    if app is not None and not NAME.fullmatch(app):
        raise ConfigError(f"--app {app!r}: no app name", "use a-z, 0-9, '.', '_' and '-', at most 64")
    return app


def _app_name(model: Path) -> str:
    name = re.sub(r"[^a-z0-9._-]+", "-", model.stem.lower())[:64].strip("._-")
    if not NAME.fullmatch(name):
        raise ConfigError(f"{model}: no app name can be made of it", "give one with --app")
    return name
