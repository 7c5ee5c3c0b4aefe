"""The sentence on the conditions of a run."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.bench.conditions import conditions_of
from edgekit_runtime.windows import Window


def window(seconds: float = 5.0, **conditions: float) -> Window:
    return Window("app", "sha256:0", "bench", 0, 100.0, 100.0 + seconds, {700: 10}, conditions=conditions)


@pytest.mark.parametrize(
    ("windows", "told"),
    [
        ([window()], "whether it throttled, this machine does not tell"),
        (
            [window(throttled=0, temperature_c=41.2), window(throttled=0, temperature_c=60)],
            "not throttled; 41 to 60 °C",
        ),
        (
            [window(31, throttled=0, under_voltage=0), window(19, throttled=1, under_voltage=1)],
            "throttled 38 % of the run; supply under-voltage seen",
        ),
        ([window(999, throttled=0), window(1, throttled=1)], "throttled less than 1 % of the run"),
        (
            [window(throttled=0, frequency_capped=1, soft_temperature_limit=1, frequency_mhz=600, power_w=4.9)],
            "frequency capped 100 % of the run; soft temperature limit reached; 600 MHz; 5 W",
        ),
        (
            [window(throttled=0, others_share=0.5), window(throttled=0, others_share=0.1)],
            "not throttled; busy: others took 30 % of the processor (python3, Xorg)",
        ),
    ],
)
def test_the_sentence(windows: list[Window], told: str) -> None:
    assert str(conditions_of(windows, {"python3": 0.2, "Xorg": 0.05})) == told


def test_what_a_window_lacks_is_not_taken_for_zero() -> None:
    found = conditions_of([window(throttled=1), window()], {})
    assert found.shares == {"throttled": 1.0}
    document: dict[str, Any] = found.as_dict()
    assert document["others_share"] == 0.0
    assert document["ranges"] == {}


def test_windows_of_no_time_do_no_harm() -> None:
    assert conditions_of([window(0, throttled=1)], {}).shares == {"throttled": 0.0}
