"""Grafana: a dashboard as it is imported (https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from edgekit.export.panels import ROWS, Panel, Query

UID = "edgekit-fleet"
"""Always the same: an import replaces what an earlier one has made."""
SCHEMA_VERSION = 38
"""Of Grafana 10; a later one brings it up to date by itself."""
INPUT = "DS_PROMETHEUS"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDE, HIGH, LOW = 24, 8, 4
_HIDDEN = ("Time", "Value", "__name__", "instance", "job")


def document() -> str:
    """All of it."""
    panels = list(_placed())
    kinds = sorted({panel["type"] for panel in panels} - {"row"})
    whole = {
        "__inputs": [{"name": INPUT, "label": "Prometheus", "type": "datasource", "pluginId": "prometheus"}],
        "__requires": [
            {"type": "grafana", "id": "grafana", "name": "Grafana", "version": "10.0.0"},
            {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
            *({"type": "panel", "id": kind, "name": kind, "version": ""} for kind in kinds),
        ],
        "uid": UID,
        "title": "edgekit",
        "tags": ["edgekit"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_source(), _variable("device", "up"), _variable("model", "edgekit_model_info")]},
        "annotations": {"list": []},
        "panels": panels,
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _source() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {"selected": False, "text": "Prometheus", "value": f"${{{INPUT}}}"},
    }


def _variable(label: str, metric: str) -> dict[str, Any]:
    """To choose some values of a label, or all."""
    query = f'label_values({metric}{{job="edgekit"}}, {label})'
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": label},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _placed() -> Iterator[dict[str, Any]]:
    """Rows below each other, panels side by side while there is room."""
    top = number = 0
    for row in ROWS:
        yield {
            "type": "row",
            "id": (number := number + 1),
            "title": row.title,
            "collapsed": False,
            **_grid(0, top, WIDE, 1),
        }
        top, left, below = top + 1, 0, top + 1
        for panel in row.panels:
            if left + panel.width > WIDE:
                top, left = below, 0
            height = LOW if panel.kind == "stat" else HIGH
            yield {"id": (number := number + 1), **_panel(panel), **_grid(left, top, panel.width, height)}
            left, below = left + panel.width, max(below, top + height)
        top = below


def _grid(left: int, top: int, width: int, height: int) -> dict[str, Any]:
    return {"gridPos": {"x": left, "y": top, "w": width, "h": height}}


def _panel(panel: Panel) -> dict[str, Any]:
    shown = {"type": panel.kind, "title": panel.title, "description": panel.about, "datasource": SOURCE}
    targets = [_target(query, chr(ord("A") + at), panel) for at, query in enumerate(panel.queries)]
    return {
        **shown,
        "targets": targets,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        **_options(panel),
    }


def _target(query: Query, ref: str, panel: Panel) -> dict[str, Any]:
    at_once = panel.kind in ("stat", "table")
    asked = {"refId": ref, "datasource": SOURCE, "expr": query.expr, "legendFormat": query.legend or "__auto"}
    return {
        **asked,
        "instant": at_once,
        "range": not at_once,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.alarm is not None:
        steps.append({"color": "red", "value": panel.alarm})
    drawn = {"fillOpacity": 20 if panel.stacked else 0, "stacking": {"mode": "normal" if panel.stacked else "none"}}
    custom = {"custom": {**drawn, "showPoints": "never"}} if panel.kind == "timeseries" else {}
    states = {"mappings": [_STATES]} if panel.kind == "state-timeline" else {}
    return {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}, **custom, **states}


_STATES = {
    "type": "value",
    "options": {"0": {"text": "not ready", "color": "red"}, "1": {"text": "ready", "color": "green"}},
}


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "table":
        hidden = {"excludeByName": dict.fromkeys(_HIDDEN, True)}
        return {"transformations": [{"id": "organize", "options": hidden}]}
    if panel.kind == "stat":
        return {"options": {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}}
    if panel.kind == "timeseries":
        legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
        return {"options": {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}}
    return {}
