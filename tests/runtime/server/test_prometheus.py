"""Exported to a real Prometheus: it finds real servers, scrapes them, knows every metric that is named, and alerts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from edgekit import fleet
from edgekit.export import grafana, prometheus
from edgekit_runtime.bundle import Bundle
from tests.lab import prometheus as lab
from tests.lab import remote_read
from tests.lab.ports import free_port
from tests.lab.project import until
from tests.lab.prometheus import Prometheus
from tests.runtime.bundles import go_live
from tests.runtime.server.house import CRASH, RAISE, binary, row
from tests.runtime.server.test_metrics import board
from tests.runtime.server.test_serve import INFER, Server

pytestmark = pytest.mark.slow

TOKEN = "0123456789abcdef"
PLACES = ("kitchen", "hall", "shed")
BEGIN = """\
import sys
from pathlib import Path
from edgekit_server import __main__, machine

machine.CONDITIONS = machine.Conditions(Path(sys.argv.pop(1)))
__main__.main()
"""
"""A server on a board that has sensors."""
HURRIED = (
    ("15s", "1s"),
    ("[5m]", "[10s]"),
    ("[30m]", "[30s]"),
    ("[15m]", "[15s]"),
    *((f"for: {n}m", "for: 0s") for n in (2, 5, 10)),
)
"""What a test cannot wait for."""


@contextmanager
def serving(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    port, log = free_port(), place / "server.log"
    monkeypatch.setenv("EDGEKIT_HOME", str(place))
    words = ["--listen", str(port), "--token-file", str(place.parent / "token"), "--cache-mib", "1"]
    with (
        log.open("wb") as out,
        Popen([sys.executable, "-c", BEGIN, str(board(place / "board")), *words], stdout=out, stderr=out) as process,
    ):
        server = Server(process, port, log)
        try:
            until(lambda: "serving at" in log.read_text() and server.ask("GET", "/v2/health/ready")[0] == 200)
            yield server
        finally:
            process.terminate()
            process.wait(60)


def ask(server: Server, first: float) -> int:
    body, length = binary(row(first))
    headers = {"Authorization": f"Bearer {TOKEN}", "Inference-Header-Content-Length": str(length)}
    return server.ask("POST", INFER, body, headers)[0]


@pytest.fixture
def servers(
    home: Path, moody: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Server]]:
    """Three devices whose model breaks when it is told to, with a budget."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    bundle = moody(2, budget={"max_p95_ms": 5000.0})
    with ExitStack() as stack:
        started = {}
        for name in PLACES:
            place = tmp_path / name
            (place / "trust").mkdir(parents=True)
            (place / "trust/allowed_signers").write_text((home / "trust/allowed_signers").read_text())
            go_live(bundle, place)
            started[name] = stack.enter_context(serving(place, monkeypatch))
        yield started


def write_fleet(folder: Path, servers: dict[str, Server]) -> None:
    for name, server in servers.items():
        uri, tags = f"local:{folder / name}", ("site=berlin", "lab")
        fleet.add(folder, fleet.Device(name, uri, "generic-x86-64", tags, f"127.0.0.1:{server.port}"))


def exported(folder: Path) -> Path:
    """What a person gets, with the token; and a Prometheus that is in a hurry."""
    out = folder / "out"
    out.mkdir()
    for name, text in prometheus.documents(fleet.load(folder)).items():
        (out / name).write_text(text)
    (out / prometheus.TOKEN).write_text(TOKEN)
    assert "12 rules found" in lab.check("config", str(out / prometheus.CONFIG))
    for name in (prometheus.CONFIG, prometheus.RULES):
        text = (out / name).read_text()
        for slow, quick in HURRIED:
            text = text.replace(slow, quick)
        (out / name).write_text(text)
    return out / prometheus.CONFIG


@contextmanager
def parsing(folder: Path) -> Iterator[Callable[[str], list[remote_read.Selector]]]:
    """What an expression names, by a Prometheus that has nothing itself and asks another for all."""
    with remote_read.listening() as asked:
        config = folder / "parse.yml"
        config.write_text(json.dumps({"remote_read": [{"url": asked.url, "read_recent": True}]}))
        with lab.running(folder, config, free_port()) as found:

            def parse(expr: str) -> list[remote_read.Selector]:
                asked.selectors.clear()
                found.query(expr)
                return list(asked.selectors)

            yield parse


def of_rules(found: Prometheus) -> dict[str, str]:
    groups = found.get("rules")["groups"]
    return {rule["name"]: rule["query"] for group in groups for rule in group["rules"]}


def of_dashboard() -> dict[str, str]:
    """By panel; the variables as Grafana sets them when all is chosen."""
    panels = [panel for panel in json.loads(grafana.document())["panels"] if panel["type"] != "row"]
    known = {"$__rate_interval": "10s", "$device": ".*", "$model": ".*"}

    def filled(expr: str) -> str:
        for name, value in known.items():
            expr = expr.replace(name, value)
        return expr

    return {f"{panel['title']} {each['refId']}": filled(each["expr"]) for panel in panels for each in panel["targets"]}


def test_scraped_known_and_alerted(servers: dict[str, Server], tmp_path: Path) -> None:
    lab.needed()
    write_fleet(tmp_path, servers)
    config = exported(tmp_path)
    with lab.running(tmp_path, config, free_port()) as found, parsing(tmp_path) as parse:
        targets_are_up(found)
        use(servers)
        until(lambda: firing(found) >= {("EdgekitErrors", "shed"), ("EdgekitModelFails", "shed")})
        assert firing(found) >= {("EdgekitThrottled", name) for name in PLACES}  # by the board's word
        assert {device for name, device in firing(found) if name != "EdgekitThrottled"} == {"shed"}
        rules, panels = of_rules(found), of_dashboard()
        assert len(rules) == 12
        assert all(rule["health"] == "ok" for group in found.get("rules")["groups"] for rule in group["rules"])
        for name, expr in {**rules, **panels}.items():
            is_known(found, name, parse(expr))
        for name, expr in panels.items():
            assert found.query(expr), f"{name} shows nothing: {expr}"


def targets_are_up(found: Prometheus) -> None:
    def up() -> bool:
        active = found.get("targets", state="active")["activeTargets"]
        return len(active) == len(PLACES) and all(each["health"] == "up" for each in active)

    until(up)
    labels = [each["labels"] for each in found.get("targets", state="active")["activeTargets"]]
    assert {each["device"] for each in labels} == set(PLACES)
    assert all((each["site"], each["tags"], each["target"]) == ("berlin", ",lab,", "generic-x86-64") for each in labels)


def use(servers: dict[str, Server]) -> None:
    """For some seconds, all of them; the one in the shed fails, and crashes at times."""

    def turn(number: int) -> None:
        assert [ask(server, float(number)) for name, server in servers.items() if name != "shed"] == [200, 200]
        assert ask(servers["shed"], CRASH if number % 40 == 20 else RAISE) in (500, 503)

    end, number = time.monotonic() + 8, 0
    while time.monotonic() < end:
        turn(number := number + 1)
        time.sleep(0.05)


def firing(found: Prometheus) -> set[tuple[str, str]]:
    alerts = found.get("alerts")["alerts"]
    return {(each["labels"]["alertname"], each["labels"]["device"]) for each in alerts if each["state"] == "firing"}


def is_known(found: Prometheus, where: str, named: list[remote_read.Selector]) -> None:
    """Each metric was scraped, with the labels that are asked of it."""
    assert named, where
    for selector in named:
        series: list[dict[str, Any]] = found.get("series", **{"match[]": selector.name})
        assert series, f"{where}: nothing is called {selector.name}"
        labels = set().union(*series)
        assert selector.labels <= labels, f"{where}: {selector.name} has no {selector.labels - labels}"
