"""Store: what devices reported, kept on the host; SQLite by default, PostgreSQL by its SQLAlchemy URL."""

from edgekit.store.clock import Clock
from edgekit.store.engine import default_url
from edgekit.store.facts import ALL, CALL, Alert, Seen, Slice, Summary
from edgekit.store.opened import Store
from edgekit.store.retention import Keep
from edgekit.store.tables import METADATA

__all__ = ["ALL", "CALL", "METADATA", "Alert", "Clock", "Keep", "Seen", "Slice", "Store", "Summary", "default_url"]
