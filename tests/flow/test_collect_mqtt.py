"""Deliveries by way of a real Mosquitto, with TLS, a password for each device and an ACL."""

from __future__ import annotations

import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edgekit.collect import broker as brokers
from edgekit.collect import certificate, passwords
from edgekit.collect.tokens import Tokens
from edgekit.errors import ConfigError
from edgekit.store import Store
from edgekit_courier import letter, tls, words
from edgekit_courier.errors import Undelivered
from edgekit_courier.parcels import Packer
from tests.lab.collecting import (
    WINDOW,
    Broker,
    Courier,
    Process,
    counted,
    enrolled,
    mosquitto,
    mqtt_collector,
    needs_mosquitto,
    running,
)
from tests.lab.project import edgekit, project, until

__all__ = ["project"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), needs_mosquitto]

COLLECTING = "collecting\n"


@pytest.fixture
def broker(project: Path) -> Iterator[Broker]:
    with mosquitto(project.parent / "broker") as made:
        yield made


@pytest.fixture
def collecting(broker: Broker) -> Iterator[Process]:
    with running(mqtt_collector(broker), COLLECTING) as process:
        yield process


@pytest.fixture
def kitchen(broker: Broker, tmp_path: Path) -> Courier:
    return known(broker, tmp_path, "kitchen")


def known(broker: Broker, folder: Path, name: str) -> Courier:
    made = enrolled(folder, name, broker.url, broker.known)
    broker.learn()
    until(lambda: _welcome(made))
    return made


def _welcome(courier: Courier) -> bool:
    """Whether the broker has read its file anew."""
    try:
        words.deliver(courier.home, once=True)
    except Undelivered as error:
        return "nobody collects" in error.message
    return True


def test_each_window_once(broker: Broker, collecting: Process, kitchen: Courier) -> None:
    kitchen.measures(3)
    assert (kitchen.delivers(), kitchen.delivers()) == (3, 0)
    (kitchen.home / "courier/taken.json").unlink()
    assert kitchen.delivers() == 3
    kitchen.measures()
    assert kitchen.delivers() == 1
    until(lambda: counted() == {"kitchen": 12})
    for file in ("mosquitto.log", "collector.log", "passwords"):
        text = (broker.folder / file).read_text()
        assert _secret(kitchen) not in text
        assert passwords.collector() not in text


def test_while_nobody_collects_it_stays_on_the_device_or_with_the_broker(broker: Broker, kitchen: Courier) -> None:
    kitchen.measures(2)
    with pytest.raises(Undelivered, match="nobody collects"):
        kitchen.delivers()
    with running(mqtt_collector(broker), COLLECTING) as process:
        process.kill()
        assert kitchen.delivers() == 2
        assert counted() == {}
        process.start(COLLECTING)
        until(lambda: counted() == {"kitchen": 6})


class TestAccess:
    def test_a_wrong_password(self, broker: Broker, collecting: Process, kitchen: Courier) -> None:
        found = letter.read(kitchen.home)
        assert found
        words.enrol(kitchen.home, {**vars(found), "token": "kitchen." + "x" * 43})
        kitchen.measures()
        with pytest.raises(Undelivered, match=r"Not authorized|Bad user name"):
            kitchen.delivers()

    @pytest.mark.parametrize("protocol", [MQTTv5, MQTTv311])
    def test_another_device_s_topic(
        self, broker: Broker, collecting: Process, kitchen: Courier, tmp_path: Path, protocol: MQTTProtocolVersion
    ) -> None:
        codes = _publish(broker, kitchen, "edgekit/v1/gate/windows", protocol)
        if protocol == MQTTv5:
            assert [code.getName() for code in codes] == ["Not authorized"]
        gate = known(broker, tmp_path, "gate")
        gate.measures()
        assert gate.delivers() == 1
        until(lambda: counted() == {"gate": 3})

    def test_no_device_reads_anything(self, broker: Broker, collecting: Process, kitchen: Courier) -> None:
        heard: list[Any] = []
        client = _client(broker, kitchen, MQTTv5)
        client.on_message = lambda *message: heard.append(message)
        client.on_connect = lambda *_: client.subscribe("#", 1)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        kitchen.measures()
        assert kitchen.delivers() == 1
        until(lambda: counted() == {"kitchen": 3})
        client.disconnect()
        client.loop_stop()
        assert heard == []

    def test_a_device_that_was_revoked_is_dropped_at_once(
        self, broker: Broker, collecting: Process, kitchen: Courier
    ) -> None:
        edgekit("collect", "revoke", "kitchen")
        kitchen.measures()
        kitchen.delivers()  # the broker has not heard of it yet
        until(lambda: "'kitchen' is not enrolled" in collecting.said)
        broker.learn()
        kitchen.measures()
        until(lambda: not _welcome(kitchen))
        assert counted() == {}

    def test_a_collector_with_a_wrong_password_says_so(self, broker: Broker) -> None:
        passwords.file().write_text("something else")
        ran = edgekit("collect", "--mqtt", broker.url, "--ca", broker.folder / "server.pem", status=1)
        assert "the broker refuses: Not authorized" in ran.line

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho's socket is left open
    def test_a_broker_with_another_certificate_gets_no_password(self, broker: Broker, kitchen: Courier) -> None:
        found = letter.read(kitchen.home)
        assert found
        words.enrol(kitchen.home, {**vars(found), "certificate": certificate.known(None).pem})
        with pytest.raises(Undelivered, match="CERTIFICATE_VERIFY_FAILED"):
            kitchen.delivers()


class TestFaults:
    def test_what_is_no_delivery_does_not_stop_it(self, broker: Broker, collecting: Process, kitchen: Courier) -> None:
        for body in (b"", b"hello", b"\x1f\x8b", b"\0" * 2_000_000):
            _publish(broker, kitchen, "edgekit/v1/kitchen/windows", MQTTv5, body)
        kitchen.measures()
        assert kitchen.delivers() == 1
        until(lambda: counted() == {"kitchen": 3})
        assert collecting.said.count("was dropped") == 4

    def test_the_broker_is_killed_and_comes_back(self, broker: Broker, collecting: Process, kitchen: Courier) -> None:
        kitchen.measures()
        assert kitchen.delivers() == 1
        until(lambda: counted() == {"kitchen": 3})
        broker.process.kill()
        kitchen.measures()
        with pytest.raises(Undelivered, match="refused"):
            kitchen.delivers()
        broker.process.start()
        until(lambda: collecting.said.count(COLLECTING) == 2)
        assert kitchen.delivers() == 1
        until(lambda: counted() == {"kitchen": 6})

    def test_the_broker_is_killed_while_nobody_collects(self, broker: Broker, kitchen: Courier) -> None:
        with running(mqtt_collector(broker), COLLECTING) as process:
            process.kill()
            kitchen.measures(5)
            assert kitchen.delivers() == 5
            time.sleep(2)  # autosave_interval
            broker.process.kill()
            broker.process.start()
            process.start(COLLECTING)
            until(lambda: counted() == {"kitchen": 15})

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_the_collector_is_killed_between_receipt_and_acknowledgement(
        self, broker: Broker, kitchen: Courier, when: str
    ) -> None:
        """Once before the window is stored, once after."""
        code = f"""
import os, signal, sys
from edgekit.collect.keeping import Keeper
real = Keeper.keep
def keep(*arguments):
    if {when == "after"}:
        real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
Keeper.keep = keep
from edgekit.__main__ import main
main()
"""
        words_ = mqtt_collector(broker).command[3:]
        dying = Process([sys.executable, "-c", code, *words_], broker.folder / "dying.log", broker.port)
        with running(dying, COLLECTING):
            kitchen.measures()
            assert kitchen.delivers() == 1
            assert dying.started
            assert dying.started.wait(60) == -signal.SIGKILL
        assert counted() == ({"kitchen": 3} if when == "after" else {})
        with running(mqtt_collector(broker), COLLECTING):
            kitchen.measures()
            kitchen.delivers()
            until(lambda: counted() == {"kitchen": 6})

    def test_while_the_store_is_locked_nothing_is_acknowledged(
        self, broker: Broker, kitchen: Courier, monkeypatch: pytest.MonkeyPatch, project: Path
    ) -> None:
        place = project.parent / "person/state/edgekit/edgekit.db"
        monkeypatch.setenv("EDGEKIT_STORE", f"sqlite:///{place}?timeout=0.2")
        with running(mqtt_collector(broker), COLLECTING) as process:
            holder = sqlite3.connect(place, isolation_level=None)
            holder.execute("BEGIN EXCLUSIVE")
            kitchen.measures(2)
            assert kitchen.delivers() == 2
            until(lambda: "locked" in process.said)
            holder.close()
            until(lambda: counted() == {"kitchen": 6})


def test_where_a_broker_is() -> None:
    assert brokers.address("mqtts://b") == brokers.Address("b", 8883, "_collector")
    assert brokers.address("mqtts://me@b:1") == brokers.Address("b", 1, "me")
    for none in ("mqtt://b", "b", "mqtts://", "mqtts://b:x", "mqtts://me:secret@b"):
        with pytest.raises(ConfigError) as caught:
            brokers.address(none)
        assert "secret" not in str(caught.value)


def test_the_store_has_no_secret(broker: Broker, kitchen: Courier, project: Path) -> None:
    with Store() as store:
        assert Tokens(store).knows("kitchen")
    for path in (project.parent / "person/state/edgekit").glob("*"):
        assert _secret(kitchen).encode() not in path.read_bytes()


def _secret(courier: Courier) -> str:
    found = letter.read(courier.home)
    assert found
    return found.secret


def _client(broker: Broker, courier: Courier, protocol: MQTTProtocolVersion) -> Client:
    client = Client(CallbackAPIVersion.VERSION2, protocol=protocol)
    client.username_pw_set(courier.name, _secret(courier))
    client.tls_set_context(tls.context(broker.known.pem, pinned=True))
    return client


def _publish(
    broker: Broker, courier: Courier, topic: str, protocol: MQTTProtocolVersion, body: bytes | None = None
) -> list[Any]:
    """With the credentials of a device; what the broker said to it."""
    codes: list[Any] = []
    client = _client(broker, courier, protocol)
    client.on_publish = lambda client, data, mid, code, properties: codes.append(code)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.publish(topic, Packer().parcel((WINDOW,)).body if body is None else body, qos=1)
    until(lambda: codes)
    client.disconnect()
    client.loop_stop()
    return codes
