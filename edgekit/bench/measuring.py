"""Bench: how long the live release of a device takes: to start, when it is warm, and when it is as hot as it gets.

A device measures in windows, as long as it is asked to, and nothing of it is recorded there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edgekit import device as devices
from edgekit.bench.figures import Bench, Facts, Part, median_ms
from edgekit.bench.layer_times import LayerTimes, layer_times
from edgekit.device import Conversation
from edgekit.errors import DeviceError
from edgekit.transports import Transport
from edgekit_runtime import fields
from edgekit_runtime.windows import Window, parse

WARM_S, WARM_WINDOW_S = 10.0, 0.5
SUSTAIN_WINDOWS, LONGEST_WINDOW_S = 40, 5.0
ASKED_S = 60.0
"""A device measures for so long without being asked again: if its host is gone, it does not run hot for long."""


@dataclass(frozen=True)
class Order:
    """What is to be measured beside the start and the warm run: ``sustain_s`` of load, 0 for none; single layers."""

    sustain_s: float = 0.0
    layers: bool = False


def bench(transport: Transport, app: str, order: Order, tell: Callable[[str], None]) -> Bench:
    """Measure an app on a device. Raises: NotInstalled, BundleError, EngineError, DeviceError, TransportError."""
    programs: dict[str, float] = {}
    with devices.conversing(transport, "bench", app) as device:
        tell("loading the model")
        try:
            facts = Facts.of(device.hear(devices.WORK_S))
            warm = Part(tuple(_measured(device, (WARM_S, WARM_WINDOW_S), programs, _telling(tell, "warm", WARM_S))))
            window_s = min(LONGEST_WINDOW_S, order.sustain_s / SUSTAIN_WINDOWS)
            heard = _telling(tell, "sustained", order.sustain_s)
            load = Part(tuple(_measured(device, (order.sustain_s, window_s), programs, heard)))
            layers = _layers(device, facts.engine["name"], tell) if order.layers else None
        except (KeyError, TypeError, ValueError) as error:
            raise DeviceError(f"what the device measured is unusable: {error!r}") from error
    return Bench(app, facts, warm, load, programs, layers)


def _measured(
    device: Conversation, times: tuple[float, float], programs: dict[str, float], heard: Callable[[Window], None]
) -> Iterator[Window]:
    """Windows of so many seconds, for so many seconds, each heard of when it comes; programs that were at work too."""
    (left_s, window_s), more = times, False
    while left_s > 0 or more:
        answer = _next(device, more, min(left_s, ASKED_S), window_s)
        left_s, more = left_s if more else left_s - ASKED_S, answer["more"] is True
        for name, share in fields.table(answer["programs"]).items():
            programs[name] = max(programs.get(name, 0.0), fields.number(share))
        window = parse(json.dumps(answer["window"]))
        if not window.count:
            raise ValueError("a window without a call")
        heard(window)
        yield window


def _next(device: Conversation, more: bool, seconds: float, window_s: float) -> dict[str, Any]:
    within_s = window_s + devices.ANSWER_S
    return device.hear(within_s) if more else device.ask({"seconds": seconds, "window_s": window_s}, timeout_s=within_s)


def _layers(device: Conversation, engine: str, tell: Callable[[str], None]) -> LayerTimes:
    tell("timing single layers")
    return layer_times(device.ask({"layers": True})["layers"], engine)


def _telling(tell: Callable[[str], None], part: str, seconds: float) -> Callable[[Window], None]:
    """Says of each window where the run is."""
    begun: list[float] = []

    def heard(window: Window) -> None:
        begun.append(window.start_s)
        heat = window.conditions.get("temperature_c")
        at = f"{part}: {min(window.end_s - begun[0], seconds):.0f} of {seconds:.0f} s, p50 {median_ms(window):.3f} ms"
        tell(at if heat is None else f"{at}, {heat:.0f} °C")

    return heard
