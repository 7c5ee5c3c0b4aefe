"""Prometheus: what it is given to find a fleet's servers, to scrape them, and to raise alerts.

Targets are found by file (https://prometheus.io/docs/guides/file-sd/): it reads that again when it changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from edgekit.fleet import Device

TARGETS, RULES, CONFIG, TOKEN = "edgekit-targets.json", "edgekit-rules.yml", "prometheus.yml", "edgekit-token"

_LABEL = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")
_OURS = ("device", "tags", "target")
_THEIRS = ("alertname", "alertstate", "instance", "job", "le", "quantile", "severity")
_MODELS = ("digest", "engine", "format", "model", "precision", "state", "version")
_OTHERS = ("kind", "outcome", "stage", "status")
_TAKEN = frozenset((*_OURS, *_THEIRS, *_MODELS, *_OTHERS))
"""Labels that mean something else."""


def documents(devices: Iterable[Device]) -> dict[str, str]:
    """The files by name; TOKEN is not among them, for only whoever set the servers up has it."""
    ours = files("edgekit.export")
    return {
        TARGETS: json.dumps([_target(device) for device in devices if device.server], indent=2, ensure_ascii=False)
        + "\n",
        RULES: ours.joinpath("rules.yml").read_text("utf-8"),
        CONFIG: ours.joinpath("prometheus.yml").read_text("utf-8"),
    }


def _target(device: Device) -> dict[str, Any]:
    return {"targets": [device.server], "labels": labels(device)}


def labels(device: Device) -> dict[str, str]:
    """A tag such as ``site=berlin`` is a label by itself; ``tags`` has the words, with commas before and behind each.

    So a word is found as Consul's are: ``tags=~".*,lab,.*"``.
    """
    known: dict[str, list[str]] = {}
    words = []
    for tag in device.tags:
        key, equals, value = tag.partition("=")
        if equals and _LABEL.fullmatch(key) and key not in _TAKEN:
            known.setdefault(key, []).append(value)
        else:
            words.append(tag)
    keyed = {key: ",".join(values) for key, values in known.items()}
    return {
        "device": device.name,
        "target": device.target,
        **keyed,
        **({"tags": f",{','.join(words)},"} if words else {}),
    }
