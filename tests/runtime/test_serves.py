"""With what releases run, as a host hears it."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.advice import serving
from edgekit_runtime import releases, serves
from edgekit_runtime.manifest import EngineNeed
from edgekit_runtime.setting import Setting
from tests.lab.bundles import flip
from tests.lab.project import Served, project, served

__all__ = ["project", "served"]  # fixtures


def test_both_releases_of_an_app_and_what_the_host_makes_of_it(project: Path, served: Served) -> None:
    told = serves.told(served.home)
    assert len(json.dumps(told)) < 2000
    first, second = sorted(serving.read("desk", told), key=lambda each: each.sequence)
    assert (first.release, first.live) == (served.first.digest, False)
    assert (second.release, second.live, second.app) == (served.second.digest, True, "digits")
    manifest = served.second.manifest
    assert (second.target, second.format, second.precision) == (manifest.target, manifest.format, manifest.precision)
    assert second.source == manifest.provenance["source"]["digest"]
    assert second.engine == manifest.engines[0].name
    assert second.threads >= 1
    chosen = next(each for each in manifest.verdict["candidates"] if each["chosen"])
    assert second.host_p50_ms == chosen["latency_ms"]["p50"]
    assert second.base_p50_ms == manifest.verdict["candidates"][0]["latency_ms"]["p50"]


def test_as_it_was_proven(project: Path, served: Served) -> None:
    release = releases.current(served.home, "digits")
    setting = Setting(EngineNeed("onnxruntime", "", (), 1), plain=True)
    releases.mark(release, "good", proof={**release.state.proof, "setting": setting.as_dict()})
    assert [each["threads"] for each in serves.told(served.home) if each["live"]] == [1]
    tuned = {"tuned": {"engine": "onnxruntime", "threads": 1, "cpus": [], "faster": 0.3}, "engine": "onnxruntime 1"}
    releases.mark(release, "good", proof=tuned)
    assert [(each["engine"], each["threads"]) for each in serves.told(served.home) if each["live"]] == [
        ("onnxruntime", 1)
    ]


def test_a_damaged_release_is_left_out(project: Path, served: Served) -> None:
    flip(served.home / "blobs/sha256" / served.second.config.digest.partition(":")[2])
    assert [each["release"] for each in serves.told(served.home)] == [served.first.digest]


def test_nothing_of_a_home_without_apps(tmp_path: Path) -> None:
    assert serves.told(tmp_path) == []
