"""Profile: what onnxruntime tells of a session's nodes, as events (Chrome's Trace Event Format, microseconds)."""

from __future__ import annotations

import bisect
from typing import Any

KERNEL, HOLDERS = "_kernel_time", ("If", "Loop", "Scan")


def nodes_by_provider(events: list[dict[str, Any]]) -> dict[str, int]:
    """By provider, the nodes in a profile; one in a loop is one."""
    seen = {
        (event["args"]["provider"], event["name"], event["args"].get("node_index"))
        for event in events
        if event.get("cat") == "Node" and event.get("args", {}).get("provider")
    }
    found: dict[str, int] = {}
    for provider, *_ in seen:
        found[provider] = found.get(provider, 0) + 1
    return found


def time_by_node(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each node with the milliseconds that it takes a call, the slowest first.

    Of the faster half of the calls, which little has disturbed; the first of all is not among them. What holds a graph
    of its own (If, Loop, Scan) is left out: the nodes of that are there.
    """
    runs = sorted((event["ts"], event["dur"]) for event in events if event.get("name") == "model_run")
    after_first = sorted(runs[1:], key=lambda run: run[1])
    chosen = {ts for ts, _ in after_first[: (len(after_first) + 1) // 2]}
    begins = [ts for ts, _ in runs]
    found: dict[tuple[str, ...], int] = {}
    for event in events:
        told, call = event.get("args", {}), bisect.bisect_right(begins, event.get("ts", 0)) - 1
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL) and call >= 0 and begins[call] in chosen:
            node = (event["name"][: -len(KERNEL)], told["op_name"], told["provider"], told.get("node_index", ""))
            if node[1] not in HOLDERS:
                found[node] = found.get(node, 0) + event["dur"]
    order = sorted(found.items(), key=lambda each: -each[1])
    calls_us = 1e3 * max(1, len(chosen))
    return [{"name": name, "op": op, "provider": by, "ms": round(us / calls_us, 6)} for (name, op, by, _), us in order]
