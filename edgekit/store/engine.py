"""Engine: from the URL of a database to connections, whose troubles are told in a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from edgekit.errors import ConfigError, EdgekitError, ExtraNotInstalled

WAITS = {"sqlite": ("timeout", 30), "postgresql": ("connect_timeout", 10)}
"""For how many seconds: SQLite for another process (its rollback journal also works on network disks, as WAL does not),
PostgreSQL's driver for a server."""
PATIENCE_S = 120
"""How long one of many threads waits for its turn."""
KNOWN: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
CHUNK = 500
MOST_NUMBER = (1 << 31) - 1
"""That an integer of PostgreSQL holds; SQLite would take a few more."""
EXAMPLES = "write sqlite:////path/to/file.db or postgresql://user@host/name"


Item = TypeVar("Item")


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


def engine(url: str) -> Engine:
    """Raises: ConfigError for a URL that names no database, ExtraNotInstalled."""
    try:
        parsed = _with_driver(make_url(url))
        name, value = WAITS[parsed.get_backend_name()]
        waits = {} if name in parsed.query else {name: value}
        made = create_engine(parsed, connect_args=waits, pool_pre_ping=True, pool_timeout=PATIENCE_S)
        if made.dialect.name == "sqlite":
            event.listen(made, "connect", _wide_pages)
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise _no_database(error) from error
        raise ExtraNotInstalled("PostgreSQL needs psycopg", "pip install 'edgekit-sdk[postgresql]'") from error
    except (ArgumentError, ImportError, ValueError, TypeError) as error:
        raise _no_database(error) from error
    return made


def _wide_pages(connection: Any, record: Any) -> None:
    """For a file that is yet to be made: a slice of a day fits in a quarter of a page, and so is read in one piece."""
    connection.execute("PRAGMA page_size = 16384")


def _with_driver(url: URL) -> URL:
    """Raises: ValueError for a kind of database that nobody has tried."""
    if url.get_backend_name() not in KNOWN:
        raise ValueError(f"{url.get_backend_name()} is neither of {', '.join(KNOWN)}")
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _no_database(error: Exception) -> ConfigError:
    return ConfigError(f"EDGEKIT_STORE names no database: {line(error)}", EXAMPLES)


@contextmanager
def reporting(what: str, hint: str) -> Iterator[None]:
    """Raises: EdgekitError for what a database says."""
    try:
        yield
    except SQLAlchemyError as error:
        raise EdgekitError(f"{what}: {line(error)}", hint) from error


def line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]


def upsert(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows, or put them in the place of those with the same primary key."""
    insert = KNOWN[connection.dialect.name](table)
    keys = [column.name for column in table.primary_key]
    news = {column.name: insert.excluded[column.name] for column in table.c if column.name not in keys}
    if listed := list(rows):
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=news), listed)


def insert_new(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert the rows that break no constraint; the other ones are there already."""
    if listed := list(rows):
        connection.execute(KNOWN[connection.dialect.name](table).on_conflict_do_nothing(), listed)


def chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """As many at a time as a statement of any database takes."""
    rest = iter(items)
    while some := list(islice(rest, CHUNK)):
        yield some
