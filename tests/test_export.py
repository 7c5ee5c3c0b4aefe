"""What Prometheus and Grafana are given, without either; tests/runtime/server/test_prometheus.py has a real one."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgekit import fleet
from edgekit.cli.export import export
from edgekit.export import grafana, prometheus
from edgekit.fleet import Device
from tests.lab import prometheus as lab

KITCHEN = Device("kitchen", "ssh://pi@kitchen", "raspberry-pi-5", ("site=berlin", "lab"), "kitchen:8000")
SHED = Device("shed", "ssh://pi@shed", "pi")
LETTERS = {
    "site=berlin": {"site": "berlin"},
    "site=berlin site=mitte": {"site": "berlin,mitte"},
    "lab old": {"tags": ",lab,old,"},
    "model=b": {"tags": ",model=b,"},
    "device=x": {"tags": ",device=x,"},
    "__name__=x": {"tags": ",__name__=x,"},
    "größe=l": {"tags": ",größe=l,"},
    "a=b=c": {"a": "b=c"},
    "": {},
}


@pytest.mark.parametrize("tags", LETTERS)
def test_labels_are_what_prometheus_takes_and_nothing_else_is_called(tags: str) -> None:
    device = Device("kitchen", "ssh://k", "pi", tuple(tags.split()))
    assert prometheus.labels(device) == {"device": "kitchen", "target": "pi", **LETTERS[tags]}


def test_those_that_others_reach_are_targets() -> None:
    [target] = json.loads(prometheus.documents([KITCHEN, SHED])[prometheus.TARGETS])
    assert target["targets"] == ["kitchen:8000"]
    assert target["labels"] == {
        "device": "kitchen",
        "target": "raspberry-pi-5",
        "site": "berlin",
        "tags": ",lab,",
    }


class TestCommand:
    @pytest.fixture(autouse=True)
    def project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        for device in (KITCHEN, SHED):
            fleet.add(tmp_path, device)
        return tmp_path

    def told(self, *words: str) -> str:
        done = CliRunner().invoke(export, words)
        assert done.exit_code == 0, done.output
        return done.output

    def test_prometheus_takes_what_is_written(self, project: Path) -> None:
        lab.needed()
        self.told("prometheus")
        (project / "prometheus" / prometheus.TOKEN).write_text("secret")
        said = lab.check("config", "prometheus/prometheus.yml")
        assert "12 rules found" in said
        assert "SUCCESS: prometheus/prometheus.yml is valid" in said
        lab.check("rules", "--lint=all", "--lint-fatal", "prometheus/edgekit-rules.yml")

    def test_says_what_there_is_to_do(self, project: Path) -> None:
        first, left_out, after = self.told("prometheus", "--out", "p").splitlines()
        assert first == "p: 1 target, scrape configuration, alert rules"
        assert left_out.startswith("without a server that others reach: shed;")
        assert after == "next: put the token of the servers into p/edgekit-token"
        (project / "p/edgekit-token").write_text("secret")
        assert len(self.told("prometheus", "--out", "p").splitlines()) == 2
        assert (project / "p/edgekit-token").read_text() == "secret"

    def test_of_the_devices_that_are_named(self, project: Path) -> None:
        document = json.loads(self.told("prometheus", "site=berlin", "--json"))
        assert (document["targets"], document["left_out"]) == (["kitchen"], [])
        assert document["files"] == [
            f"prometheus/{name}" for name in ("edgekit-targets.json", "edgekit-rules.yml", "prometheus.yml")
        ]

    def test_the_dashboard(self, project: Path) -> None:
        assert self.told("grafana").startswith("edgekit-grafana.json: import it")
        assert (project / "edgekit-grafana.json").read_text() == grafana.document()


class TestDashboard:
    """What Grafana's import asks of one."""

    @pytest.fixture
    def whole(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(grafana.document())
        return document

    def test_is_the_same_one_when_it_is_imported_again(self, whole: dict[str, Any]) -> None:
        assert (whole["uid"], whole["schemaVersion"]) == ("edgekit-fleet", 38)
        assert "id" not in whole

    def test_asks_for_its_source(self, whole: dict[str, Any]) -> None:
        [asked] = whole["__inputs"]
        variables = {each["name"]: each for each in whole["templating"]["list"]}
        assert variables["datasource"]["current"]["value"] == f"${{{asked['name']}}}"
        sources = [
            each["datasource"]["uid"] for each in (*whole["panels"], *variables.values()) if "datasource" in each
        ]
        assert len(sources) > 15
        assert set(sources) == {"${datasource}"}

    def test_its_panels_lie_beside_each_other(self, whole: dict[str, Any]) -> None:
        panels = whole["panels"]
        assert len({each["id"] for each in panels}) == len(panels)
        for one, other in combinations((each["gridPos"] for each in panels), 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert beside or below
        assert all(each["gridPos"]["x"] + each["gridPos"]["w"] <= 24 for each in panels)

    def test_its_rows(self, whole: dict[str, Any]) -> None:
        rows = [each["title"] for each in whole["panels"] if each["type"] == "row"]
        assert rows == ["Fleet", "Latency by release", "Stages", "Conditions"]
