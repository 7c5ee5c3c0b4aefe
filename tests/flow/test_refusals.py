"""What a device refuses, each by its code, through the command and a real sshd; and what it writes down of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit import bundle
from edgekit.signing import Signer
from edgekit.simulate import Simulated
from edgekit_runtime.bundle import Bundle
from edgekit_runtime.manifest import canonical
from tests.lab.bundles import contents, flip, make_bundle, of_other_bytes, part_of
from tests.lab.project import document, project, served_pi
from tests.lab.sshd import needs_sshd, new_key

__all__ = ["project", "served_pi"]  # fixtures
pytestmark = [needs_sshd, pytest.mark.slow]


def unsigned(place: Path) -> None:
    entries(make_bundle(place, sequence=3), lambda found: found[:1])


def signed_for_another(place: Path) -> None:
    other = make_bundle(place.with_name("other"), sequence=4)
    mine = make_bundle(place, sequence=3)
    for blob in (other.root / "blobs/sha256").iterdir():
        shutil.copy(blob, mine.root / "blobs/sha256")
    theirs = json.loads((other.root / "index.json").read_bytes())["manifests"][1]
    entries(mine, lambda found: [found[0], theirs])


def by_a_stranger(place: Path) -> None:
    made = replace(contents(), manifest=replace(contents().manifest, sequence=3))
    bundle.write(made, place, Signer(place.with_name("stranger.key")))


def by_one_who_was_revoked(place: Path) -> None:
    key = f"{place.with_name('stranger.key')}.pub"
    document("trust", "add", key)
    by_a_stranger(place)
    assert document("trust", "revoke", key)["devices"][0]["changed"]


def mixed_with_another(place: Path) -> None:
    mine, other = make_bundle(place, of_other_bytes(), sequence=3), make_bundle(place.with_name("other"))
    shutil.copy(part_of(other.root, "model"), part_of(mine.root, "model"))


def longer_than_declared(place: Path) -> None:
    with part_of(make_bundle(place, sequence=3).root, "model").open("ab") as file:
        file.truncate(1 << 34)


def entries(made: Bundle, change: Callable[[list[Any]], list[Any]]) -> None:
    index = json.loads((made.root / "index.json").read_bytes())
    (made.root / "index.json").write_bytes(canonical({**index, "manifests": change(index["manifests"])}))


CASES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "unsigned": ("signature", unsigned),
    "signed for another": ("signature", signed_for_another),
    "unknown": ("unknown_signer", by_a_stranger),
    "revoked": ("revoked_signer", by_one_who_was_revoked),
    "tampered": ("digest_mismatch", lambda place: flip(part_of(make_bundle(place, sequence=3).root, "model"))),
    "older": ("downgrade", lambda place: make_bundle(place, sequence=1, version="old")),
    "expired": ("expired", lambda place: make_bundle(place, sequence=3, expires=5)),
    "for another machine": ("incompatible_target", lambda place: make_bundle(place, sequence=3, arch="riscv64")),
    "for another target": ("incompatible_target", lambda place: make_bundle(place, sequence=3, target="jetson")),
    "mixed": ("digest_mismatch", mixed_with_another),
    "endless": ("too_large", longer_than_declared),
}


def live() -> str:
    digest: str = document("status")["devices"][0]["apps"][0]["current"]["digest"]
    return digest


def told(device: Simulated) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (device.home / "audit.log").read_text().splitlines()]


def test_each_is_refused_by_its_code_and_the_release_before_serves_on(project: Path, served_pi: Simulated) -> None:
    new_key(project / "stranger.key")
    before = live()
    for name, (code, make) in CASES.items():
        make(project / "case")
        error = document("push", "case", status=1)["devices"][0]["error"]
        assert (error["code"], bool(error["message"]), bool(error["hint"])) == (code, True, True), name
        assert live() == before, name
        shutil.rmtree(project / "case")
        shutil.rmtree(project / "other", ignore_errors=True)
    told_codes = [line["code"] for line in told(served_pi) if line["what"] == "install refused"]
    assert told_codes == ["signature", "signature", "unknown_signer", "revoked_signer", "incompatible_target"]
    assert {line["from"] for line in told(served_pi)[-5:]} == {"127.0.0.1"}
    assert not list((served_pi.home / "incoming").glob("*"))


def test_an_older_one_goes_live_when_a_person_says_so(project: Path, served_pi: Simulated) -> None:
    older = make_bundle(project / "case", sequence=1, version="old")
    pushed = document("push", "case", "--allow-downgrade")["devices"][0]
    assert (pushed["ok"], live()) == (True, older.digest)
    words = [line["what"] for line in told(served_pi)]
    assert words[-3:] == ["install", "downgrade allowed", "switch"]
    assert (told(served_pi)[-2]["sequence"], told(served_pi)[-2]["highest"]) == (1, 2)
    assert document("push", make_bundle(project / "again", sequence=1, version="older").root, status=1)
