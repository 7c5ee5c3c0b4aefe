"""What people write: TOML read into frozen values, and each mistake told in one line that names file and key path."""

from __future__ import annotations

import json
import re
import tomllib
from difflib import get_close_matches
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec

from edgekit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

T = TypeVar("T")

_AT = re.compile(r" - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.+)`")


def read_toml(path: Path) -> dict[str, Any]:
    """The document in a TOML file. Raises: ConfigError when it is missing, unreadable or not TOML (with the line)."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text, at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def decode(document: dict[str, Any], kind: type[T], file: Path) -> T:
    """The ``kind`` that ``document``, read from ``file``, describes; a Struct with ``forbid_unknown_fields``.

    Nothing is coerced, except that an integer may stand where a float is expected.
    Raises: ConfigError for the first key found unknown, missing, of a wrong type or out of range.
    """
    try:
        return msgspec.convert(document, kind, strict=True)
    except msgspec.ValidationError as error:
        raise _explained(str(error), _Place((), document, kind), file) from error


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was most likely meant to be; None when nothing is near."""
    return next(iter(get_close_matches(word, list(known), n=1)), None)


class _Place(NamedTuple):
    """A value within a document: the keys that lead to it and the type that it should have."""

    keys: tuple[str | int, ...]
    value: Any
    kind: Any

    def enter(self, key: str | int) -> _Place:
        return _Place((*self.keys, key), self.value[key], _inside(self.kind, key))


def _explained(report: str, root: _Place, file: Path) -> ConfigError:
    """The error for a person, made from msgspec's report: what, then optionally where."""
    what, at = _AT.sub("", report), _AT.search(report)
    place = _find(root, at["path"]) if at else root
    if at and at["key"]:
        place = _wrong_key(place)
    if unknown := _UNKNOWN.fullmatch(what):
        return ConfigError(f"{_where(file, *place.keys, unknown[1])}: unknown key", _meant(unknown[1], place.kind))
    if missing := _MISSING.fullmatch(what):
        return ConfigError(f"{_where(file, *place.keys, missing[1])}: missing")
    if what.startswith("Invalid enum value"):
        what = f"{_written(place.value)} is not one of {', '.join(_choices(place.kind))}"
        return ConfigError(f"{_where(file, *place.keys)}: {what}")
    return ConfigError(f"{_where(file, *place.keys)}: {_in_words_of_toml(what)}", _remedy(place))


def _find(place: _Place, path: str) -> _Place:
    """The place that msgspec's ``path``, such as ``.engine[0].name``, leads to."""
    for step in _STEP.finditer(path):
        if step["key"]:
            place = place.enter(step["key"])
        elif step["index"]:
            place = place.enter(int(step["index"]))
        else:  # "[...]": some key of a mapping. It is the first one whose value does not fit.
            inner = map(place.enter, place.value)
            wrong = next((item for item in inner if not _fits(item.value, item.kind)), None)
            if wrong is None:
                return place
            place = wrong
    return place


def _wrong_key(place: _Place) -> _Place:
    """The first key of a mapping that is not as keys there must be, taken for the value."""
    kinds = [get_args(member)[0] for member in _members(place.kind) if get_origin(member) is dict]
    wrong = next((key for key in place.value if not any(_fits(key, kind) for kind in kinds)), None)
    return place if wrong is None else _Place((*place.keys, wrong), wrong, kinds[0])


def _where(file: Path, *keys: str | int) -> str:
    return f"{file}: {dotted(keys)}" if keys else str(file)


def dotted(keys: tuple[str | int, ...]) -> str:
    """The key as TOML writes it, ``a."b c"``; an index stands in brackets and counts from 0."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{_quoted(key)}" for key in keys).removeprefix(".")


def _quoted(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _written(key)


def _written(value: Any) -> str:
    """A scalar as TOML writes it, on one line."""
    return json.dumps(value, default=str, ensure_ascii=False)


def _meant(key: str, kind: Any) -> str:
    known = [name for member in _members(kind) for name in _fields(member)]
    near = nearest(key, known)
    return f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"


def _choices(kind: Any) -> list[str]:
    members = list(_members(kind))
    literals = [value for member in members if get_origin(member) is Literal for value in get_args(member)]
    enums = [
        each.value for member in members if isinstance(member, type) and issubclass(member, Enum) for each in member
    ]
    return [str(value) for value in (*literals, *enums)]


def _in_words_of_toml(what: str) -> str:
    """Msgspec speaks of JSON: its object is a table here, and there is no null."""
    if not what.startswith("Expected "):
        return what
    return re.sub(r"\bobject\b", "table", what.replace(" | null", "").replace("`", "")).replace("E", "e", 1)


def _remedy(place: _Place) -> str | None:
    """What to write instead, where the value as it stands tells; else the value."""
    match place.value:
        case dict() if _fits([place.value], place.kind):
            return f"write [[{dotted(place.keys)}]], in double brackets"
        case dict() | list():
            return None
        case str(text) if _fits(_unquoted(text), place.kind):
            return f"write {text}, without quotes"
        case int() | float() as number if _fits(_written(number), place.kind):
            return f'write "{_written(number)}", in quotes'
        case value if _fits([value], place.kind):
            return f"write [{_written(value)}], in brackets"
        case value:
            return f"found {_written(value)}"


def _unquoted(text: str) -> Any:
    """What the text would be in TOML without its quotes; the text itself when it would be nothing."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _inside(kind: Any, key: str | int) -> Any:
    """The type expected at ``key`` of a value of type ``kind``; Any where that cannot be told."""
    for member in _members(kind):
        if isinstance(key, int) and get_origin(member) in (list, tuple):
            return get_args(member)[0]
        if isinstance(key, str) and get_origin(member) is dict:
            return get_args(member)[1]
        if key in (fields := _fields(member)):
            return fields[str(key)]
    return Any


def _members(kind: Any) -> Iterator[Any]:
    """The alternatives of a union, or the type alone; without annotations."""
    if get_origin(kind) is Annotated:
        yield from _members(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for member in get_args(kind):
            yield from _members(member)
    else:
        yield kind


def _fields(kind: Any) -> dict[str, Any]:
    """The keys of a Struct with their types; none for anything else."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    return {}
