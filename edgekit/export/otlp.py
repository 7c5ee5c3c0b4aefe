"""OTLP: what the store has, sent once to where OTEL_EXPORTER_OTLP_ENDPOINT says, as its exporter does it.

The exporter reads the environment (endpoint, headers, certificates, compression, timeout), and comes again where it is
told to come later. What was taken is remembered at once; only where that fails is it sent again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricExportResult

from edgekit.errors import EdgekitError
from edgekit.export import arrivals, otlp_points
from edgekit.store import Store

TOGETHER = 500
"""Windows in one request: 50 to 200 kB."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
DEFAULT = "http://localhost:4318"
UNKEPT, UNREAD = "how far the export has come cannot be kept", "the store cannot be read"


def endpoint() -> str:
    """Where the exporter sends to, without a password that may stand in it."""
    parts = urlsplit(_endpoint())
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _endpoint() -> str:
    return next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), DEFAULT)


def send(store: Store, now_s: float) -> Iterator[int]:
    """Send what has come since the last time, part by part; how many windows were taken with each.

    Raises: EdgekitError, where all that was taken before is remembered.
    """
    place = hashlib.sha256(_endpoint().encode()).hexdigest()
    with store.transaction(UNREAD) as connection:
        last = arrivals.mark(connection, place)
    exporter = OTLPMetricExporter()
    try:
        while True:
            with store.transaction(UNREAD) as connection:
                part = arrivals.after(connection, last, now_s, TOGETHER)
            if not part:
                return
            _export(exporter, part)
            last = part[-1].mark
            with store.transaction(UNKEPT) as connection:
                arrivals.remember(connection, place, last)
            yield len(part)
    finally:
        exporter.shutdown()


def _export(exporter: OTLPMetricExporter, part: list[arrivals.Arrival]) -> None:
    data = otlp_points.of(part)
    with _heard() as said:
        done = exporter.export(data) if data.resource_metrics else MetricExportResult.SUCCESS
    if done is not MetricExportResult.SUCCESS:
        why = f": {said[-1]}" if said else ""
        raise EdgekitError(f"{endpoint()} does not take it{why}", "nothing is lost: run it again")


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What the exporter logs, which is nothing for a terminal but where it is the reason of a failure."""
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(" ".join(record.getMessage().split()))

    logger, ear = logging.getLogger("opentelemetry"), Ear(logging.WARNING)
    before, logger.propagate = logger.propagate, False
    logger.addHandler(ear)
    try:
        yield said
    finally:
        logger.removeHandler(ear)
        logger.propagate = before
