from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import ConfigError, RoundError
from edgekit.federated import rows, staleness, strategies
from edgekit.federated.strategies import MEANS, ROBUST
from edgekit.federated.strategy import Strategy
from edgekit_train.update import Update
from tests.lab.updates import BASE, SIZE, row_of, tables, update, updates_of, weights_of

ALL = [*(make() for make in MEANS), *(make(1) for make in ROBUST)]
PLAIN = [each for each in ALL if each.name not in ("fedadam", "fedyogi")]
NEAR = {"rtol": 1e-6, "atol": 1e-6}


def name(strategy: Strategy) -> str:
    return strategy.name


def moved(strategy: Strategy, updates: list[Update]) -> np.ndarray:
    """How far the weights move from zero."""
    return row_of(strategy.aggregate(strategy.init(BASE), updates).weights)


@pytest.fixture(autouse=True, scope="module")
def narrow_blocks() -> Iterator[None]:
    """So that a table of a few columns has several blocks, the last of them narrower."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "BLOCK", 128)
        yield


# what holds for all of them


@pytest.mark.parametrize("strategy", ALL, ids=name)
@settings(max_examples=25)
@given(data=st.data())
def test_the_order_in_which_updates_come_makes_no_difference(strategy: Strategy, data: st.DataObject) -> None:
    updates = updates_of(data.draw(tables(7, 12)))
    shuffled = data.draw(st.permutations(updates))
    np.testing.assert_allclose(moved(strategy, shuffled), moved(strategy, updates), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("strategy", ALL[4:], ids=name)
@settings(max_examples=25)
@given(data=st.data())
def test_of_robust_rules_not_even_a_bit_of_it(strategy: Strategy, data: st.DataObject) -> None:
    updates = updates_of(data.draw(tables(7, 9, far=2.0).map(np.round)))  # with many ties
    assert moved(strategy, data.draw(st.permutations(updates))).tobytes() == moved(strategy, updates).tobytes()


@pytest.mark.parametrize("strategy", PLAIN, ids=name)
@settings(max_examples=25)
@given(row=tables(1, 1), count=st.integers(7, 12))
def test_what_all_devices_agree_on_is_what_comes_of_it(strategy: Strategy, row: np.ndarray, count: int) -> None:
    np.testing.assert_allclose(moved(strategy, updates_of(np.repeat(row, count, axis=0))), row[0], **NEAR)


@pytest.mark.parametrize("strategy", ALL, ids=name)
def test_devices_that_learned_nothing_leave_the_weights_as_they_are(strategy: Strategy) -> None:
    weights = weights_of(np.arange(SIZE))
    state = strategy.aggregate(strategy.init(weights), updates_of(np.zeros((7, SIZE))))
    assert row_of(state.weights).tobytes() == row_of(weights).tobytes()


@pytest.mark.parametrize("strategy", ALL, ids=name)
def test_too_few_devices_are_refused_and_the_least_number_is_not(strategy: Strategy) -> None:
    updates = updates_of(np.ones((strategy.least, SIZE)))
    assert moved(strategy, updates).shape == (SIZE,)
    line = f"^{strategy.name}: needs updates from {strategy.least} devices and has {strategy.least - 1} — wait for more"
    with pytest.raises(RoundError, match=line):
        moved(strategy, updates[1:])


@pytest.mark.parametrize("strategy", ALL, ids=name)
def test_it_is_found_by_its_name(strategy: Strategy) -> None:
    assert strategies.named(strategy.name, {}).least == strategy.least


def test_options_go_to_the_strategy_and_unknown_ones_are_told() -> None:
    assert strategies.named("krum", {"liars": 4}).least == 11
    assert strategies.named("fedadam", {"rate": 0.5}).server == strategies.fedadam(0.5).server
    with pytest.raises(ConfigError, match=r"no strategy 'fedsgd' — known: fedavg, fedprox, .*bulyan"):
        strategies.named("fedsgd", {})
    with pytest.raises(ConfigError, match=r"fedprox: unknown option 'liars' — known: mu"):
        strategies.named("fedprox", {"liars": 1})
    with pytest.raises(ConfigError, match=r"median: liars is -1 — give how many"):
        strategies.named("median", {"liars": -1})


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 0, -0.1, 1e4, 10**400])
@pytest.mark.parametrize("name", ["fedadam", "fedyogi"])
def test_a_server_steps_at_a_rate_that_is_a_number_and_not_beyond_reason(name: str, rate: float) -> None:
    """Otherwise it was told only when all devices had trained, and what came of it was not finite."""
    with pytest.raises(ConfigError, match=f"^{name}: rate is .* — give a (finite )?number"):
        strategies.named(name, {"rate": rate})


@pytest.mark.parametrize("mu", [float("nan"), float("-inf")])
def test_no_option_is_infinite_or_no_number(mu: float) -> None:
    with pytest.raises(ConfigError, match=f"fedprox: mu is {mu} — give a finite number"):
        strategies.named("fedprox", {"mu": mu})


def test_the_least_numbers_are_those_of_the_papers() -> None:
    assert {each.name: each.least for each in ALL} == {
        "fedavg": 1, "fedprox": 1, "fedadam": 1, "fedyogi": 1,
        "median": 3, "trimmed-mean": 3, "krum": 5, "multi-krum": 5, "bulyan": 7,
    }  # fmt: skip
    assert [make(4).least for make in ROBUST] == [9, 9, 11, 11, 19]


def test_liars_that_gave_themselves_away_are_not_reckoned_with() -> None:
    """Those who are left are as few liars as if they had never been there."""
    for make in ROBUST:
        assert [make(4).without(broken).least for broken in (0, 1, 4, 5)] == [make(n).least for n in (4, 3, 0, 0)]
        rows = np.random.default_rng(0).standard_normal((15, SIZE))
        one, other = (each.aggregate(each.init(BASE), updates_of(rows)) for each in (make(4).without(1), make(3)))
        assert all(np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)
    assert strategies.fedavg().without(3) == strategies.fedavg()


@pytest.mark.parametrize("strategy", ALL, ids=name)
def test_a_device_that_is_there_twice_is_refused(strategy: Strategy) -> None:
    updates = updates_of(np.ones((8, SIZE)))
    with pytest.raises(RoundError, match=r"two updates from pi-000"):
        moved(strategy, [*updates, updates[0]])


@pytest.mark.parametrize("strategy", ALL, ids=name)
@pytest.mark.parametrize("delta", [{}, {**BASE, "more": BASE["head/bias"]}, {**BASE, "head/bias": np.zeros((1, 2))}])
def test_an_update_that_does_not_fit_is_refused(strategy: Strategy, delta: dict[str, np.ndarray]) -> None:
    with pytest.raises(RoundError, match="other arrays than the model"):
        moved(strategy, [*updates_of(np.ones((7, SIZE))), update(delta, "odd")])


@pytest.mark.parametrize("strategy", ALL, ids=name)
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_refused(strategy: Strategy, number: float) -> None:
    table = np.ones((9, SIZE))
    table[8, 2] = number
    with pytest.raises(RoundError, match=r"an update has numbers that are not finite — check updates before"):
        moved(strategy, updates_of(table))


@pytest.mark.parametrize("strategy", PLAIN, ids=name)
def test_weights_that_are_not_finite_never_come_of_a_round(strategy: Strategy) -> None:
    far = np.full((7, SIZE), 3e38)
    with pytest.raises(RoundError, match=rf"^{strategy.name}: the new weights are not finite"):
        strategy.aggregate(strategy.init(weights_of(far[0])), updates_of(far))


@pytest.mark.parametrize("strategy", ALL, ids=name)
def test_neither_the_state_nor_the_updates_are_changed(strategy: Strategy) -> None:
    state, updates = strategy.init(weights_of(np.arange(SIZE))), updates_of(np.ones((7, SIZE)))
    first = strategy.aggregate(state, iter(updates))
    np.testing.assert_array_equal(row_of(state.weights), np.arange(SIZE))
    assert all(row_of(each.delta).tolist() == [1.0] * SIZE for each in updates)
    np.testing.assert_array_equal(row_of(strategy.aggregate(state, updates).weights), row_of(first.weights))


# the mean


@given(table=tables(1, 8), data=st.data())
def test_the_mean_is_weighted_by_examples(table: np.ndarray, data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(1, 1 << 40), min_size=len(table), max_size=len(table)))
    updates = [replace(each, examples=count) for each, count in zip(updates_of(table), counts, strict=True)]
    expected = np.average(table.astype(np.float64), axis=0, weights=np.array(counts, np.float64))
    np.testing.assert_allclose(moved(strategies.fedavg(), updates), expected, **NEAR)


@given(table=tables(2, 6), times=st.integers(1, 5))
def test_a_device_with_so_many_times_the_examples_is_as_so_many_devices(table: np.ndarray, times: int) -> None:
    heavy = [replace(each, examples=10 * times) if not at else each for at, each in enumerate(updates_of(table))]
    many = updates_of(np.concatenate([np.repeat(table[:1], times, axis=0), table[1:]]))
    np.testing.assert_allclose(moved(strategies.fedavg(), heavy), moved(strategies.fedavg(), many), **NEAR)


@given(table=tables(2, 8, far=2.0), told=st.integers(1, 100_000), data=st.data())
def test_with_a_clip_no_device_pulls_further_than_its_share_whatever_it_tells(
    table: np.ndarray, told: int, data: st.DataObject
) -> None:
    table, clip = table / np.float32(SIZE), 2.0  # so is each row shorter
    liar = data.draw(st.integers(0, len(table) - 1))
    updates = updates_of(table)
    lied = [replace(each, examples=told) if at == liar else each for at, each in enumerate(updates)]
    found = moved(strategies.clipped(strategies.fedavg()), lied)
    np.testing.assert_allclose(found, table.astype(np.float64).mean(axis=0), **NEAR)
    without = np.delete(table, liar, axis=0).sum(axis=0) / len(table)
    assert np.linalg.norm(found - without) <= clip / len(table) * (1 + 1e-6)


def test_a_clip_leaves_every_other_rule_as_it_is() -> None:
    for make in ROBUST:
        strategy = make(1)
        assert strategies.clipped(strategy) is strategy
    for each in MEANS:
        plain = each()
        assert replace(strategies.clipped(plain), rule=plain.rule) == plain


def test_a_sum_of_a_thousand_is_as_exact_as_one() -> None:
    table = np.full((1000, SIZE), 0.1, np.float32)
    assert moved(strategies.fedavg(), updates_of(table)).tolist() == [np.float32(0.1)] * SIZE


def test_fedprox_differs_in_what_devices_are_told() -> None:
    assert strategies.fedprox(0.1).config == {"proximal": 0.1}
    assert not strategies.fedavg().config


# liars: whatever f devices send, with the n that the paper asks for


def honest_and_liars(make: Callable[[int], Strategy]) -> st.SearchStrategy[tuple[np.ndarray, int]]:
    """A table whose last f rows are lies, and f."""
    lies = st.sampled_from([1.0, 100.0, 1e6, 1e30])

    def of(liars: int) -> st.SearchStrategy[tuple[np.ndarray, int]]:
        least = make(liars).least
        table = st.tuples(tables(least - liars, least - liars + 3), tables(liars, liars), lies)
        return table.map(lambda each: (np.concatenate([each[0], each[1] * np.float32(each[2])]), liars))

    return st.integers(1, 3).flatmap(of)


@pytest.mark.parametrize("make", [strategies.median, strategies.trimmed_mean])
@settings(max_examples=50)
@given(data=st.data())
def test_each_number_stays_among_the_honest_ones(make: Callable[[int], Strategy], data: st.DataObject) -> None:
    table, liars = data.draw(honest_and_liars(make))
    honest, found = table[:-liars].astype(np.float64), moved(make(liars), updates_of(table))
    slack = 1e-6 * np.abs(honest).max()
    assert (found >= honest.min(axis=0) - slack).all() and (found <= honest.max(axis=0) + slack).all()


@given(data=st.data())
def test_bulyan_stays_within_the_width_of_the_honest_numbers(data: st.DataObject) -> None:
    table, liars = data.draw(honest_and_liars(strategies.bulyan))
    honest, found = table[:-liars].astype(np.float64), moved(strategies.bulyan(liars), updates_of(table))
    low, high = honest.min(axis=0), honest.max(axis=0)
    slack = high - low + 1e-6 * np.abs(honest).max()
    assert (found >= low - slack).all() and (found <= high + slack).all()


def krum_bound(honest: np.ndarray, liars: int) -> float:
    """How far an update that Krum takes can be from the nearest honest one.

    An honest score is at most (n - f - 2) · D², D the widest distance between honest updates. What is taken has no
    more, and among its n - f - 2 neighbours are at most f - 1 other liars.
    """
    n = len(honest) + liars
    widest = max(float(np.linalg.norm(a - b)) for a, b in combinations(honest, 2))
    return float(np.sqrt((n - liars - 2) / (n - 2 * liars - 1)) * widest)


@given(data=st.data())
def test_what_krum_takes_is_near_an_honest_one(data: st.DataObject) -> None:
    table, liars = data.draw(honest_and_liars(strategies.single_krum))
    honest, found = table[:-liars].astype(np.float64), moved(strategies.single_krum(liars), updates_of(table))
    assert any((found == row).all() for row in table)
    nearest = np.linalg.norm(honest - found, axis=1).min()
    assert nearest <= krum_bound(honest, liars) * (1 + 1e-6) + 1e-5


@given(data=st.data())
def test_multi_krum_is_as_near_to_the_honest_ones(data: st.DataObject) -> None:
    table, liars = data.draw(honest_and_liars(strategies.multi_krum))
    honest, found = table[:-liars].astype(np.float64), moved(strategies.multi_krum(liars), updates_of(table))
    widest = max(float(np.linalg.norm(a - b)) for a, b in combinations(honest, 2))
    nearest = np.linalg.norm(honest - found, axis=1).min()
    assert nearest <= (krum_bound(honest, liars) + widest) * (1 + 1e-6) + 1e-5


@pytest.mark.parametrize("make", ROBUST)
def test_far_lies_leave_a_robust_rule_among_the_honest(make: Callable[[int], Strategy]) -> None:
    honest = np.random.default_rng(0).normal(1, 0.01, (16, SIZE))
    lies = np.array([-10 * honest[0], np.full(SIZE, 1e38), np.full(SIZE, -1e38), np.zeros(SIZE)])
    found = moved(make(4), updates_of(np.concatenate([honest, lies, honest[:3] + 0.001])))
    assert np.abs(found - 1).max() < 0.05


def test_one_lie_takes_the_mean_anywhere() -> None:
    table = np.concatenate([np.ones((9, SIZE)), np.full((1, SIZE), -1e6)])
    assert moved(strategies.fedavg(), updates_of(table)).max() < -9e4


def test_krum_tells_updates_apart_that_have_much_in_common() -> None:
    """In float32 the squared distances below would drown in the squares of the numbers."""
    common, rng = np.full(SIZE, 4096, np.float32), np.random.default_rng(1)
    table = common + rng.normal(0, 0.01, (9, SIZE)).astype(np.float32)
    apart = np.array([[np.sum((a - b) ** 2, dtype=np.float64) for b in table] for a in table])
    expected = np.sort(apart, axis=1)[:, : 9 - 2 - 2 + 1].sum(axis=1).argmin()
    assert moved(strategies.single_krum(2), updates_of(table)).tolist() == table[expected].tolist()


# adaptive servers, late updates


@pytest.mark.parametrize("make", [strategies.fedadam, strategies.fedyogi])
def test_an_adaptive_server_remembers(make: Callable[[float], Strategy]) -> None:
    """As in the paper's algorithm 2, in plain numbers."""
    strategy, delta, mean, square, weight = make(0.1), 0.5, 0.0, 1e-6, 0.0
    state = strategy.init(BASE)
    for _ in range(3):
        state = strategy.aggregate(state, updates_of(np.full((2, SIZE), delta)))
        mean = 0.9 * mean + 0.1 * delta
        adam, yogi = 0.99 * square + 0.01 * delta**2, square - 0.01 * delta**2 * np.sign(square - delta**2)
        square = adam if strategy.name == "fedadam" else yogi
        weight += 0.1 * mean / (np.sqrt(square) + 1e-3)
        np.testing.assert_allclose(row_of(state.weights), weight, rtol=1e-5)


@given(table=tables(1, 4, far=1e3), rounds=st.integers(1, 20))
def test_the_second_moment_of_yogi_stays_positive(table: np.ndarray, rounds: int) -> None:
    strategy = strategies.fedyogi()
    state = strategy.init(BASE)
    for _ in range(rounds):
        state = strategy.aggregate(state, updates_of(table))
    assert (state.moments["second"] > 0).all()


def test_a_late_update_counts_for_less() -> None:
    assert [round(staleness.weight(rounds), 3) for rounds in (0, 1, 3, 8)] == [1.0, 0.707, 0.5, 0.333]
    fresh = update(weights_of(np.ones(SIZE)))
    assert staleness.aged(fresh, 0) is fresh
    late = staleness.aged(fresh, 3)
    assert row_of(late.delta).tolist() == [0.5] * SIZE and late.delta["head/bias"].dtype == np.float32
    assert replace(late, delta=fresh.delta) == fresh
