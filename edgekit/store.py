"""Store: what devices reported, kept on the host; SQLite by default, another database by its SQLAlchemy URL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import platformdirs
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from edgekit.errors import ConfigError, EdgekitError
from edgekit_runtime.report import Window, merge, percentile, summed

ATTEMPTS = 5
BUSY_S = 30
"""How long SQLite waits for another process; its rollback journal also works on network disks, as WAL does not."""

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
    """Calls of one release on one device; latencies in milliseconds, within 1 %; None without a call or if emulated."""

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
    emulated: bool = False


def default_url() -> str:
    """SQLite in the user's state folder, which is made. Raises: EdgekitError."""
    folder = Path(platformdirs.user_state_dir("edgekit"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgekitError(
            f"{folder}: cannot be made: {error.strerror}", "give EDGEKIT_STORE the URL of a database"
        ) from error
    return f"sqlite:///{folder / 'edgekit.db'}"


class Store:
    """An open database."""

    def __init__(self, url: str | None = None) -> None:
        """Raises: ConfigError for a URL that names no database, EdgekitError when it cannot be opened."""
        self._engine = _engine(url or default_url())
        with _reporting("the store cannot be opened", "look at EDGEKIT_STORE"):
            try:
                METADATA.create_all(self._engine)
            except DBAPIError:  # somebody else made them meanwhile
                METADATA.create_all(self._engine)

    def add(self, device: str, windows: Iterable[Window]) -> int:
        """Keep the windows of a device that are not kept yet; how many were new. Raises: EdgekitError."""
        rows = {(window.session, window.seq): _row(device, window) for window in windows}
        with _reporting("the report cannot be stored", "nothing is lost: run it again"):
            for _ in range(ATTEMPTS - 1):
                try:
                    return self._insert(device, rows)
                except IntegrityError:  # somebody else has stored some of them meanwhile
                    continue
            return self._insert(device, rows)

    def _insert(self, device: str, rows: Mapping[tuple[str, int], dict[str, Any]]) -> int:
        with self._engine.begin() as connection:
            kept = connection.execute(select(WINDOWS.c.session, WINDOWS.c.seq).where(WINDOWS.c.device == device))
            new = [rows[key] for key in rows.keys() - {(row.session, row.seq) for row in kept}]
            if new:
                connection.execute(WINDOWS.insert(), new)
        return len(new)

    def summaries(self, devices: Iterable[str] | None = None) -> list[Summary]:
        """One line a device and release, in their order. Raises: EdgekitError."""
        query = select(WINDOWS).order_by(WINDOWS.c.device, WINDOWS.c.app, WINDOWS.c.start_s)
        if devices is not None:
            query = query.where(WINDOWS.c.device.in_(list(devices)))
        groups: dict[tuple[str, str, str], list[Window]] = {}
        with _reporting("the store cannot be read", "look at EDGEKIT_STORE"), self._engine.connect() as connection:
            for row in connection.execute(query):
                groups.setdefault((row.device, row.app, row.release), []).append(_window(row))
        return [_summary(*key, windows) for key, windows in groups.items()]

    @contextmanager
    def transaction(self, what: str) -> Iterator[Connection]:
        """All of it or nothing; ``what`` is told when it fails. Raises: EdgekitError."""
        with _reporting(what, "look at EDGEKIT_STORE"), self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        patient = parsed.get_backend_name() == "sqlite" and "timeout" not in parsed.query
        return create_engine(parsed, connect_args={"timeout": BUSY_S} if patient else {})
    except (ArgumentError, ImportError, ValueError) as error:
        raise ConfigError(
            f"EDGEKIT_STORE names no database: {_line(error)}",
            "write sqlite:////path/to/file.db or postgresql+psycopg://user@host/name",
        ) from error


@contextmanager
def _reporting(what: str, hint: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise EdgekitError(f"{what}: {_line(error)}", hint) from error


def _row(device: str, window: Window) -> dict[str, Any]:
    return {"device": device, **vars(window), "buckets": [[i, n] for i, n in sorted(window.buckets.items())]}


def _window(row: Any) -> Window:
    buckets = {int(index): int(number) for index, number in row.buckets}
    return Window(row.app, row.release, row.session, row.seq, row.start_s, row.end_s, buckets, row.errors)


def _summary(device: str, app: str, release: str, windows: list[Window]) -> Summary:
    buckets, errors = merge(windows), summed(window.errors for window in windows)
    emulated = any(window.emulated for window in windows)
    told = buckets and not emulated
    p50, p95, p99 = (percentile(buckets, share) / 1e6 if told else None for share in (0.5, 0.95, 0.99))
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
        emulated,
    )


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
