"""Spelling: what a person writes about a round on the command line, as values."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit import waves
from edgekit.errors import ConfigError
from edgekit_train.compression import Compression

Setting = float | int | str
WEEK_S = 7 * 24 * 3600.0


def settings(words: Iterable[str]) -> dict[str, Setting]:
    """``rate=0.05`` as {"rate": 0.05}: a whole number, a number, or a word. Raises: ConfigError."""
    return dict(_setting(word) for word in words)


def numbers(words: Iterable[str]) -> dict[str, float]:
    """The same, numbers only. Raises: ConfigError."""
    found: dict[str, float] = {}
    for name, value in settings(words).items():
        if isinstance(value, str):
            raise ConfigError(f"{name}={value}: no number", f"write {name}=2")
        found[name] = value
    return found


def deadline(text: str) -> float:
    """``10m`` in seconds: one at least, and no more than a program can be waited for. Raises: ConfigError."""
    seconds = waves.duration(text)
    if not 1 <= seconds <= WEEK_S:
        raise ConfigError(f"{text!r} is no deadline of a round", "write 10m: from 1s to 168h")
    return seconds


def compression(text: str) -> Compression:
    """``int8``: a byte for each number; ``1%``: the largest of them only, a byte for each. Raises: ConfigError."""
    try:
        return Compression() if text.strip() == "int8" else Compression(share=waves.share(text))
    except ConfigError as error:
        raise ConfigError(f"{text!r} is no compression", "write int8, or 1% for the largest numbers only") from error


def _setting(word: str) -> tuple[str, Setting]:
    name, sign, text = word.partition("=")
    if not sign or not name or not text:
        raise ConfigError(f"{word!r} is no setting", "write rate=0.05")
    for kind in (int, float):
        try:
            return name, kind(text)
        except ValueError:
            continue
    return name, text
