from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgekit.cli import cli
from edgekit.collect import enrolment, tokens
from edgekit.collect.certificate import Known
from edgekit.collect.tokens import Tokens
from edgekit.errors import CommandError, DeviceError, ExtraNotInstalled
from edgekit.fleet import Device
from edgekit.store import Store
from edgekit.transports import Completed
from tests.lab.project import desk, document, edgekit, project

__all__ = ["desk", "project"]  # fixtures


class Link:
    """A way to a device that answers as it is told; what was asked of it."""

    def __init__(self, *answers: str, whence: str = "192.0.2.7 50000 192.0.2.9 22") -> None:
        self.answers, self.whence = list(answers), whence
        self.asked: list[tuple[list[str], bytes]] = []

    def run(self, command: list[str], *, stdin: bytes = b"", timeout_s: float | None = None) -> Completed:
        self.asked.append((command, stdin))
        if "SSH_CONNECTION" in command[2]:
            return Completed((), 0, f"{self.whence}\n".encode(), b"")
        return Completed((), 0, self.answers.pop(0).encode(), b"")


NOBODY = '{"error": {"code": "undelivered", "message": "refused", "hint": null}}'
KNOWN = Known("-----BEGIN CERTIFICATE-----", pinned=True)


@pytest.fixture
def kept(project: Path) -> Tokens:
    return Tokens(Store())


class TestEnrolment:
    def test_a_device_is_told_where_by_whom_and_what_and_nobody_else_is(self, kept: Tokens) -> None:
        link = Link('{"url": "x"}', '{"delivered": 0}')
        done = enrolment.enrol(link, "kitchen", kept, None, KNOWN)  # type: ignore[arg-type]
        assert (done.url, done.reached, done.note) == ("https://192.0.2.7:8443", True, "")
        [letter] = [json.loads(stdin) for _, stdin in link.asked if stdin]
        assert (letter["url"], letter["certificate"], letter["pinned"]) == (done.url, KNOWN.pem, True)
        assert kept.bearer(letter["token"]) == "kitchen"
        assert not any(letter["token"] in word for command, _ in link.asked for word in command)

    def test_one_that_does_not_get_there_yet_is_enrolled(self, kept: Tokens) -> None:
        done = enrolment.enrol(Link("{}", NOBODY), "kitchen", kept, "https://c", KNOWN)  # type: ignore[arg-type]
        assert (done.url, done.reached, done.note) == ("https://c", False, "refused")
        assert kept.knows("kitchen")

    def test_a_device_that_takes_no_letter_keeps_its_token(self, kept: Tokens) -> None:
        old = tokens.fresh("kitchen")
        kept.keep(old)
        with pytest.raises((CommandError, DeviceError)):
            enrolment.enrol(Link(NOBODY), "kitchen", kept, "https://c", KNOWN)  # type: ignore[arg-type]
        assert kept.bearer(old.text) == "kitchen"

    @pytest.mark.parametrize(
        ("whence", "url"), [("fd00::1 1 fd00::2 22", "https://[fd00::1]:8443"), ("127.0.0.1", "https://127.0.0.1:8443")]
    )
    def test_where_this_host_is(self, kept: Tokens, whence: str, url: str) -> None:
        link = Link("{}", '{"delivered": 1}', whence=whence)
        assert enrolment.enrol(link, "kitchen", kept, None, KNOWN).url == url  # type: ignore[arg-type]

    @pytest.mark.parametrize("whence", ["", "evil.example/?", "\x1b[2J"])
    def test_where_it_is_not(self, kept: Tokens, whence: str) -> None:
        with pytest.raises(DeviceError, match="where this host is"):
            enrolment.enrol(Link(whence=whence), "kitchen", kept, None, KNOWN)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("missing", "words", "hint"),
    [
        ("edgekit.collect.app", ["collect"], "pip install 'edgekit-sdk[web]'"),
        ("paho.mqtt.client", ["collect", "--mqtt", "mqtts://b"], "pip install 'edgekit-sdk[mqtt]'"),
    ],
)
def test_without_its_extra_it_says_which(
    project: Path, monkeypatch: pytest.MonkeyPatch, missing: str, words: list[str], hint: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ExtraNotInstalled) as caught:
        cli(words, standalone_mode=False)
    assert caught.value.hint == hint


@pytest.mark.slow
def test_a_device_without_the_courier_is_told_how_to_get_it(project: Path, desk: Device) -> None:
    failed = document("collect", "enrol", "desk", status=1)
    assert failed["devices"] == []
    [failure] = failed["failures"]
    assert failure["error"]["message"].endswith("the courier is not installed here (No module named 'edgekit_courier')")
    assert "--service 'edgekit-runtime deliver'" in failure["error"]["hint"]
    assert document("collect", "list")["devices"] == []


@pytest.mark.slow
def test_what_a_person_does_with_tokens(project: Path) -> None:
    with Store() as store:
        Tokens(store).keep(tokens.fresh("kitchen"))
    header, row = edgekit("collect", "list").stdout.splitlines()
    assert (header.split(), row.split()[0]) == (["device", "since"], "kitchen")
    lines = edgekit("collect", "passwords").stdout.splitlines()
    assert [line.partition(":$7$")[0] for line in lines] == ["_collector", "kitchen"]
    assert edgekit("collect", "revoke", "kitchen").stdout == "kitchen: may not deliver any more\n"
    assert edgekit("collect", "revoke", "kitchen").stdout == "kitchen: had no token\n"
