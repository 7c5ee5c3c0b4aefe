"""Store: what devices reported, kept on the host; SQLite by default, another database by its SQLAlchemy URL."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from sqlalchemy import JSON, Column, Float, Integer, MetaData, String, Table, create_engine, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from edgekit.errors import EdgekitError
from edgekit_runtime.report import Window, merge, percentile

METADATA = MetaData()
WINDOWS = Table(
    "windows",
    METADATA,
    Column("device", String(64), primary_key=True),
    Column("session", String(64), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("app", String(64), nullable=False, index=True),
    Column("release", String(80), nullable=False),
    Column("start_s", Float, nullable=False),
    Column("end_s", Float, nullable=False),
    Column("buckets", JSON, nullable=False),
    Column("errors", JSON, nullable=False),
)


@dataclass(frozen=True)
class Summary:
    """Calls of one release on one device; latencies in milliseconds (None without a call), within 1 %."""

    device: str
    app: str
    release: str
    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    errors: dict[str, int]
    first_s: float
    last_s: float


def default_url() -> str:
    folder = Path(platformdirs.user_state_dir("edgekit"))
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'edgekit.db'}"


class Store:
    """An open database."""

    def __init__(self, url: str | None = None) -> None:
        """Raises: EdgekitError when it cannot be opened."""
        self._engine = create_engine(url or default_url())
        try:
            METADATA.create_all(self._engine)
        except SQLAlchemyError as error:
            raise EdgekitError(f"the store cannot be opened: {_line(error)}", "look at EDGEKIT_STORE") from error

    def add(self, device: str, windows: Iterable[Window]) -> int:
        """Keep the windows of a device that are not kept yet; how many were new. Raises: EdgekitError."""
        rows = {(window.session, window.seq): _row(device, window) for window in windows}
        try:
            with self._engine.begin() as connection:
                kept = connection.execute(select(WINDOWS.c.session, WINDOWS.c.seq).where(WINDOWS.c.device == device))
                new = [rows[key] for key in rows.keys() - {(row.session, row.seq) for row in kept}]
                if new:
                    connection.execute(WINDOWS.insert(), new)
        except IntegrityError as error:
            raise EdgekitError("another report is being stored at this moment", "run it again") from error
        except SQLAlchemyError as error:
            raise EdgekitError(
                f"the report cannot be stored: {_line(error)}", "nothing is lost: run it again"
            ) from error
        return len(new)

    def summaries(self, devices: Iterable[str] | None = None) -> list[Summary]:
        """One line a device and release, in their order."""
        query = select(WINDOWS).order_by(WINDOWS.c.device, WINDOWS.c.app, WINDOWS.c.start_s)
        if devices is not None:
            query = query.where(WINDOWS.c.device.in_(list(devices)))
        groups: dict[tuple[str, str, str], list[Window]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                groups.setdefault((row.device, row.app, row.release), []).append(_window(row))
        return [_summary(*key, windows) for key, windows in groups.items()]

    def close(self) -> None:
        self._engine.dispose()


def _row(device: str, window: Window) -> dict[str, Any]:
    return {"device": device, **vars(window), "buckets": [[i, n] for i, n in sorted(window.buckets.items())]}


def _window(row: Any) -> Window:
    buckets = {int(index): int(number) for index, number in row.buckets}
    return Window(row.app, row.release, row.session, row.seq, row.start_s, row.end_s, buckets, row.errors)


def _summary(device: str, app: str, release: str, windows: list[Window]) -> Summary:
    buckets, errors = merge(windows), dict[str, int]()
    for window in windows:
        for code, number in window.errors.items():
            errors[code] = errors.get(code, 0) + number
    p50, p95, p99 = (percentile(buckets, share) / 1e6 if buckets else None for share in (0.5, 0.95, 0.99))
    return Summary(
        device,
        app,
        release,
        sum(buckets.values()),
        p50,
        p95,
        p99,
        errors,
        min(window.start_s for window in windows),
        max(window.end_s for window in windows),
    )


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
