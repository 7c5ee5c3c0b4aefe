from __future__ import annotations

import pytest

from edgekit.brought import ALWAYS, GRPC, MASKS, MQTT, Brought

BARE: dict[str, str | None] = {"numpy": "2", "edgekit-runtime": "0.1.0", "edgekit-server": None, "grpcio": None}


def test_nothing_else_is_brought_unasked() -> None:
    assert Brought().beside(BARE) == Brought()
    assert Brought().own == ALWAYS
    assert Brought().requirements == ()


@pytest.mark.parametrize(
    ("asked", "own", "needs"),
    [
        (Brought(server=True), ("edgekit_server",), ()),
        (Brought(grpc=True), ("edgekit_server",), GRPC),
        (Brought(courier=True), ("edgekit_courier",), MQTT),
        (Brought(train=True), ("edgekit_train",), MASKS),
    ],
)
def test_what_is_asked_for_is(asked: Brought, own: tuple[str, ...], needs: tuple[str, ...]) -> None:
    found = asked.beside(BARE)
    assert found.own == (*ALWAYS, *own)
    assert found.requirements == needs


def test_masks_are_brought_where_there_are_wheels() -> None:
    learns = Brought(train=True)
    assert [learns.on(arch).requirements for arch in ("x86_64", "aarch64")] == [MASKS, MASKS]
    assert [learns.on(arch).requirements for arch in ("armv7l", "armv6l", "riscv64")] == [(), (), ()]
    assert learns.on("armv7l").beside({}).own == learns.own


@pytest.mark.parametrize(
    ("there", "stays"),
    [
        ({"edgekit-server": "0.1.0"}, Brought(server=True)),
        ({"edgekit-server": "0.1.0", "grpcio": "1.6"}, Brought(server=True, grpc=True)),
        ({"grpcio": "1.6"}, Brought()),
        ({"edgekit-courier": "0.1.0"}, Brought(courier=True)),
        ({"edgekit-train": "0.1.0"}, Brought(train=True)),
    ],
)
def test_what_is_there_stays(there: dict[str, str | None], stays: Brought) -> None:
    assert Brought().beside({**BARE, **there}) == stays
