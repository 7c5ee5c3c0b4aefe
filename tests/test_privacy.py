"""Privacy: what is spent is what independent accountants say, and a budget is never broken."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import RoundError
from edgekit.federated.privacy import rdp
from edgekit.federated.privacy.adaptive_clipping import AdaptiveClip
from edgekit.federated.privacy.central import Central, summed
from edgekit.federated.privacy.ledger import Budget, Ledger, Step, local, noise_for
from edgekit.federated.privacy.sampling import chosen
from edgekit.federated.strategies import fedavg
from edgekit.federated.vectors import layout_of
from edgekit_train.clipping import norm
from tests.lab.updates import BASE, update, updates_of

SPENT = [
    # rate, noise, rounds, δ, ε of opacus 1.6.0, ε of dp-accounting 0.6.0 (whose fractional orders are upper bounds)
    (1.0, 1.0, 1, 1e-5, 4.728507067217623, 4.728507067217623),
    (0.1, 1.0, 100, 1e-5, 7.899255002434629, 7.903850223578231),
    (0.2, 0.7, 20, 1e-3, 10.268315677144235, 10.268315677144235),
    (0.01, 1.1, 1000, 1e-6, 1.9767496422598807, 1.976749717213337),
    (0.5, 2.0, 50, 1e-5, 10.277893380848077, 10.28780809372872),
    (1.0, 4.0, 30, 1e-5, 6.813318185854952, 6.813318185854952),
    (0.05, 0.5, 10, 1e-4, 8.501248457488943, 8.502715840805072),
]
RATES, NOISES = st.floats(1e-4, 1), st.floats(0.3, 50)
BUDGET = Budget(4.0, 1e-3)


def seeded(seed: int = 7) -> Any:
    return np.random.default_rng(seed).bytes


@pytest.mark.parametrize(("rate", "noise", "rounds", "delta", "opacus", "dp_accounting"), SPENT)
def test_it_is_what_independent_accountants_say(
    rate: float, noise: float, rounds: int, delta: float, opacus: float, dp_accounting: float
) -> None:
    spent = Ledger(Budget(100, delta)).entered(Step(rate, noise), rounds).spent
    assert spent == pytest.approx(opacus, rel=1e-8)
    assert dp_accounting * 0.998 < spent <= dp_accounting * (1 + 1e-12)


def binomial(rate: float, noise: float, order: int) -> float:
    """Mironov, Talwar and Zhang, 2019, section 3.3: the closed form for whole orders."""
    logs = [
        math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
        + (order - k) * math.log1p(-rate) + k * math.log(rate) + k * (k - 1) / (2 * noise**2)
        for k in range(order + 1)
    ]  # fmt: skip
    most = max(logs)
    return (most + math.log(sum(math.exp(each - most) for each in logs))) / (order - 1)


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-4, 0.99), NOISES)
def test_the_integral_is_the_closed_form_where_there_is_one(rate: float, noise: float) -> None:
    for order, divergence in zip(rdp.ORDERS, rdp.curve(rate, noise), strict=True):
        if order == int(order) and order < 200:
            assert divergence == pytest.approx(binomial(rate, noise, int(order)), rel=1e-6, abs=1e-13)


@settings(max_examples=25, deadline=None)
@given(RATES, NOISES, st.floats(1, 2))
def test_more_noise_and_rarer_rounds_spend_less(rate: float, noise: float, factor: float) -> None:
    spent = rdp.curve(rate, noise)
    assert np.all(rdp.curve(rate, noise * factor) <= spent * (1 + 1e-9) + 1e-12)
    assert np.all(rdp.curve(rate / factor, noise) <= spent * (1 + 1e-9) + 1e-12)
    assert np.all(spent <= rdp.curve(1.0, noise) * (1 + 1e-9) + 1e-12)


@pytest.mark.parametrize(("rate", "noise"), [(-0.1, 1), (1.1, 1), (math.nan, 1), (1, 0), (1, math.nan), (1, math.inf)])
def test_what_is_no_round_is_refused(rate: float, noise: float) -> None:
    with pytest.raises(ValueError):
        rdp.curve(rate, noise)


@pytest.mark.parametrize(("epsilon", "delta"), [(0, 0.1), (math.inf, 0.1), (math.nan, 0.1), (1, 0), (1, 1)])
def test_what_is_no_budget_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError):
        Budget(epsilon, delta)


def test_nothing_spends_nothing() -> None:
    assert Ledger(BUDGET).spent == 0
    assert Ledger(BUDGET).entered(Step(0.0, 1.0), 100).spent == 0


def test_it_stops_before_the_budget_is_broken() -> None:
    step, ledger, rounds = Step(0.5, 3.0), Ledger(BUDGET), 0
    left = ledger.left(step)
    with pytest.raises(RoundError, match="does not allow another round") as error:
        while True:
            ledger, rounds = ledger.entered(step), rounds + 1
    assert (error.value.code, error.value.exit_code) == ("privacy", 3)
    assert rounds == left > 1
    assert 0.9 * BUDGET.epsilon < ledger.spent <= BUDGET.epsilon
    assert ledger.left(step) == 0
    assert ledger.left(Step(0.01, 10.0)) > 0


@pytest.mark.parametrize("epsilon", [2.0, 4.0, 8.0])
def test_the_noise_for_a_budget_is_just_enough(epsilon: float) -> None:
    budget = Budget(epsilon, 1e-3)
    noise = noise_for(budget, 0.5, 30)
    assert 0.99 * epsilon < Ledger(budget).entered(Step(0.5, noise), 30).spent <= epsilon
    with pytest.raises(RoundError):
        Ledger(budget).entered(Step(0.5, noise / 1.01), 30)


def test_some_budgets_no_noise_can_keep() -> None:
    with pytest.raises(RoundError, match="no noise"):
        noise_for(Budget(1e-9, 1e-12), 1.0, 1000)


def test_local_noise_is_accounted_for_any_two_deltas() -> None:
    """Two of norm 1 are up to 2 apart, and everybody knows whose it is."""
    assert local(4.0, 1.0) == Step(1.0, 2.0)
    assert Ledger(BUDGET).entered(local(16.0, 2.0)).spent == Ledger(BUDGET).entered(Step(1.0, 4.0)).spent


def test_a_ledger_is_kept_as_json() -> None:
    ledger = Ledger(BUDGET).entered(Step(0.5, 6.0), 3).entered(Step(0.1, 2.0)).entered(Step(0.5, 6.0))
    assert [rounds for _, rounds in ledger.entries] == [4, 1]
    document = json.loads(json.dumps(ledger.as_dict()))
    assert Ledger.of(document) == ledger
    assert document["spent"] == ledger.spent
    for broken in ({**document, "rounds": [7]}, {**document, "epsilon": "4"}):
        with pytest.raises(ValueError):
            Ledger.of(broken)


TABLE = np.array([[3, 4, 0, 0, 0, 0], [0, 0, 0.3, 0.4, 0, 0], [0, -30, 0, 40, 0, 0]])


class TestCentral:
    def test_each_delta_is_clipped_and_none_weighs_more(self) -> None:
        updates = [replace(each, examples=10 ** (place + 1)) for place, each in enumerate(updates_of(TABLE))]
        found = summed(layout_of(BASE), iter(updates), 1.0)
        assert (found.count, found.whole) == (3, 1)
        assert found.total == pytest.approx([0.6, 0.2, 0.3, 1.2, 0, 0], abs=1e-5)

    def test_no_device_moves_the_sum_by_more_than_the_bound(self) -> None:
        """Which is all that the accountant asks of it."""
        most = (
            summed(layout_of(BASE), updates_of(TABLE), 0.7).total
            - summed(layout_of(BASE), updates_of(TABLE[:2]), 0.7).total
        )
        assert np.linalg.norm(most) <= 0.7 + 1e-9

    def test_it_takes_the_place_of_the_mean_in_a_strategy(self) -> None:
        central = Central(clip=1.0, noise=0.0, expected=2.0)
        state = replace(fedavg(), rule=central.rule).aggregate(fedavg().init(BASE), updates_of(TABLE))
        assert state.weights["head/bias"] == pytest.approx([0.3, 0.1], abs=1e-5)

    def test_the_noise_is_that_of_the_ledger(self) -> None:
        zeros = {"w": np.zeros(20_000, np.float32)}
        central = Central(clip=3.0, noise=2.0, expected=4.0, randomness=seeded())
        delta = central.rule(layout_of(zeros), [update(zeros)])
        assert float(np.std(delta)) == pytest.approx(3 * 2 / 4, rel=0.02)
        again = replace(central, randomness=seeded()).rule(layout_of(zeros), [update(zeros)])
        assert np.array_equal(delta, again)
        system = Central(3.0, 2.0, 4.0)
        assert not np.array_equal(system.released(np.zeros(9)), system.released(np.zeros(9)))

    def test_who_sends_no_number_is_refused(self) -> None:
        with pytest.raises(ValueError, match="finite"):
            summed(layout_of(BASE), updates_of(np.full((1, 6), np.nan)), 1.0)


class TestAdaptiveClip:
    @pytest.mark.parametrize("start", [0.01, 100.0])
    def test_the_bound_finds_the_quantile(self, start: float) -> None:
        norms, randomness = np.exp(np.random.default_rng(7).normal(size=500)), seeded()
        clip = AdaptiveClip(start, deviation=25.0, quantile=0.7)
        for _ in range(150):
            clip = clip.after(int(np.sum(norms <= clip.most)), 500, 500, randomness)
        assert np.mean(norms <= clip.most) == pytest.approx(0.7, abs=0.06)

    def test_sum_and_count_together_spend_what_was_agreed(self) -> None:
        """Gaussians compose as one: the squares of norm over deviation add up (Andrew et al., theorem 1)."""
        clip = AdaptiveClip(1.0, deviation=10.0)
        assert clip.noise(1.0) ** -2 + (2 * clip.deviation) ** -2 == pytest.approx(1.0)
        assert clip.noise(1.0) > 1.0
        with pytest.raises(ValueError, match="too little"):
            AdaptiveClip(1.0, deviation=0.4).noise(1.0)


def test_each_device_throws_a_coin_of_its_own() -> None:
    devices, randomness = [f"pi-{number}" for number in range(100)], seeded()
    counts = [len(chosen(devices, 0.3, randomness)) for _ in range(200)]
    assert np.mean(counts) == pytest.approx(30, abs=1.5)
    assert np.std(counts) == pytest.approx(math.sqrt(100 * 0.3 * 0.7), rel=0.2)
    assert chosen(devices, 1.0) == devices
    assert chosen(devices, 0.0) == []


def test_a_clipped_delta_fits_an_accountant_after_rounding() -> None:
    for each in updates_of(TABLE * 1e3):
        found = summed(layout_of(BASE), [each], 0.1)
        assert np.linalg.norm(found.total) <= 0.1 < norm(each.delta)


ACCOUNTANT = """
import json, sys
import dp_accounting
from dp_accounting import rdp
orders = json.loads(sys.stdin.readline())
for line in sys.stdin:
    rate, noise, rounds, delta = json.loads(line)
    relation = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    accountant = rdp.RdpAccountant(orders=orders, neighboring_relation=relation)
    accountant.compose(dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise)), rounds)
    print(accountant.get_epsilon(delta))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_living_accountant_says_the_same(tmp_path: Path) -> None:
    """dp-accounting, at whole orders: it bounds others from above, or leaves them out where its series is too slow."""
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", "dp-accounting"]
    if subprocess.run(pip, capture_output=True, check=False).returncode:
        pytest.skip("the package index is out of reach")
    whole = np.floor(rdp.ORDERS) == rdp.ORDERS
    rounds = [(1, 1e-3), (30, 1e-5)]
    cases = [(rate, noise, *each) for rate in (0.02, 0.25, 0.5, 1.0) for noise in (0.6, 1.0, 3.0) for each in rounds]
    asked = [rdp.ORDERS[whole].tolist(), *cases]
    lines = "".join(f"{json.dumps(each)}\n" for each in asked)
    done = subprocess.run([str(python), "-c", ACCOUNTANT], input=lines, capture_output=True, text=True, check=True)
    for (rate, noise, count, delta), theirs in zip(cases, map(float, done.stdout.split()), strict=True):
        curve = count * rdp.curve(rate, noise)
        assert rdp.epsilon(np.where(whole, curve, np.inf), delta) == pytest.approx(theirs, rel=1e-9)
        assert rdp.epsilon(curve, delta) <= theirs * (1 + 1e-9)
