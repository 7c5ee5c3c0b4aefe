from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from edgekit.config import decode, nearest, read_toml
from edgekit.errors import ConfigError

FILE = Path("edgekit.toml")


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Data(Table, frozen=True):
    calibration: str
    evaluation: str | None = None


class Budget(Table, frozen=True):
    max_accuracy_drop: Annotated[float, msgspec.Meta(ge=0)] = 0.01
    latency_ms: Optional[float] = None  # noqa: UP045 - both spellings must be understood


class Device(Table, frozen=True):
    uri: str
    tags: tuple[str, ...] = ()
    mode: Literal["trial", "live"] | None = None


class Project(Table, frozen=True):
    data: Data
    budget: Budget = Budget()
    devices: dict[Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9.-]*$")], Device] = {}
    steps: list[dict[str, Budget]] = []
    spare: tuple[Device, ...] = msgspec.field(name="device", default=())
    anything: dict[str, Any] = {}


GOOD: dict[str, Any] = {"data": {"calibration": "c.npz"}}


def line(**document: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        decode({**GOOD, **document}, Project, FILE)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_document_becomes_a_value() -> None:
    document = {**GOOD, "devices": {"pi.kitchen": {"uri": "ssh://pi@10.0.0.4", "tags": ["shop"], "mode": "live"}}}
    project = decode(document, Project, FILE)
    assert project.devices["pi.kitchen"] == Device(uri="ssh://pi@10.0.0.4", tags=("shop",), mode="live")
    assert project.budget == Budget()


def test_an_integer_may_stand_where_a_float_is_expected() -> None:
    budget = decode({**GOOD, "budget": {"max_accuracy_drop": 1, "latency_ms": 20}}, Project, FILE).budget
    assert (budget.max_accuracy_drop, budget.latency_ms) == (1.0, 20.0)
    assert type(budget.latency_ms) is float


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"data": {"calibraton": "c"}}, "data.calibraton: unknown key — did you mean 'calibration'?"),
        ({"data": {"zzz": 1}}, "data.zzz: unknown key — known: calibration, evaluation"),
        ({"data": {}}, "data.calibration: missing"),
        ({"data": 3}, "data: expected table, got int — found 3"),
        (
            {"data": {"calibration": "c", "evaluation": 3}},
            'data.evaluation: expected str, got int — write "3", in quotes',
        ),
        (
            {"budget": {"max_accuracy_drop": "0.02"}},
            "budget.max_accuracy_drop: expected float, got str — write 0.02, without quotes",
        ),
        (
            {"budget": {"max_accuracy_drop": "a\nb"}},
            r'budget.max_accuracy_drop: expected float, got str — found "a\nb"',
        ),
        ({"budget": {"max_accuracy_drop": -1}}, "budget.max_accuracy_drop: expected float >= 0.0 — found -1"),
        ({"budget": {"latency_ms": True}}, "budget.latency_ms: expected float, got bool — found true"),
        (
            {"devices": {"pi": {"uri": "x"}, "b.c": {"uir": "x"}}},
            "devices.\"b.c\".uir: unknown key — did you mean 'uri'?",
        ),
        (
            {"devices": {"pi": {"uri": "x", "tags": "a"}}},
            'devices.pi.tags: expected array, got str — write ["a"], in brackets',
        ),
        ({"devices": {"pi": {"uri": "x", "mode": "tral"}}}, 'devices.pi.mode: "tral" is not one of trial, live'),
        ({"devices": {"pi": 1}}, "devices.pi: expected table, got int — found 1"),
        (
            {"devices": {"ok": {"uri": "x"}, "Pi 1": {"uri": "x"}}},
            'devices."Pi 1": expected str matching regex \'^[a-z][a-z0-9.-]*$\' — found "Pi 1"',
        ),
        ({"device": {"uri": "x"}}, "device: expected array, got table — write [[device]], in double brackets"),
        ({"device": [{"uri": "x"}, {}]}, "device[1].uri: missing"),
        (
            {"steps": [{}, {"one": {}, "two": {"latency_ms": []}}]},
            "steps[1].two.latency_ms: expected float, got array",
        ),
    ],
)
def test_each_kind_of_mistake_is_told_in_one_line(document: dict[str, Any], expected: str) -> None:
    assert line(**document) == f"edgekit.toml: {expected}"


def test_a_rule_of_the_value_itself_keeps_its_words() -> None:
    class Range(Table, frozen=True):
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    with pytest.raises(ConfigError, match=r"^edgekit\.toml: low is above high$"):
        decode({"low": 2, "high": 1}, Range, FILE)


def tables(value: Any, keys: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """Every table that stands for a Struct, with the keys that lead to it."""
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in tables(item, (*keys, index))]
    if not isinstance(value, dict):
        return []
    inner = [found for key, item in value.items() for found in tables(item, (*keys, key))]
    return inner if keys in {("devices",), ("steps", 0), ("steps", 1)} else [(keys, value), *inner]


@given(st.integers(min_value=0), st.text(min_size=1), st.text("abcxyz-. ", min_size=1))
def test_an_unknown_key_is_found_wherever_it_stands(where: int, key: str, step: str) -> None:
    document: dict[str, Any] = {
        "data": {"calibration": "c"},
        "budget": {"latency_ms": 1},
        "devices": {"pi": {"uri": "x"}, "b.c": {"uri": "x"}},
        "steps": [{"one": {}}, {step: {}}],
        "device": [{"uri": "x"}, {"uri": "x"}],
    }
    places = tables(document)
    keys, table = places[where % len(places)]
    table[f"{key}?"] = 1  # no field has such a name
    message = line(**document)
    assert ": unknown key" in message
    assert all(str(part) in message for part in keys if part != step)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
@example("")
@example("a.b")
@example('"')
def test_a_path_reads_back_as_toml(key: str) -> None:
    assume(key not in {"calibration", "evaluation"})
    path = line(data={"calibration": "c", key: 1}).removeprefix("edgekit.toml: ").rpartition(": unknown key")[0]
    assert tomllib.loads(f"{path} = 1") == {"data": {key: 1}}


def test_nearest() -> None:
    assert nearest("calibraton", ["evaluation", "calibration"]) == "calibration"
    assert nearest("zzz", ["evaluation", "calibration"]) is None


def test_read_toml(tmp_path: Path) -> None:
    path = tmp_path / "edgekit.toml"
    path.write_bytes(b"\xef\xbb\xbfapp = 'digits'\r\n")
    assert read_toml(path) == {"app": "digits"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"app = 'a'\nname = \n", r"not TOML: .*line 2"),
        (b"a = 1\na = 2\n", r"not TOML: .*line 2"),
        (b"app = '\xff'", "not UTF-8 text, at byte 7"),
    ],
)
def test_read_toml_refuses(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "edgekit.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"edgekit.toml: {expected}"):
        read_toml(path)


def test_read_toml_of_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: no such file"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_toml(tmp_path)
