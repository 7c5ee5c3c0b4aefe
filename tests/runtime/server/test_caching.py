"""Answers that were kept: the same asked in any form, within the bytes allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgekit_server.caching import ENTRY_BYTES, Cache, digest

X = np.arange(12, dtype=np.float32).reshape(3, 4)
INPUTS = st.dictionaries(
    st.sampled_from(["x", "y", ""]),
    npst.arrays(st.sampled_from(["?", "u1", "i8", "f2", "f4"]), npst.array_shapes(min_dims=0, min_side=0)),
    min_size=1,
)


class TestDigest:
    @pytest.mark.parametrize(
        "other",
        [
            {"y": X},
            {"x": X, "y": X},
            {"x": X.view(np.int32)},
            {"x": X.reshape(4, 3)},
            {"x": X[None]},
            {"x": X.T},
            {"x": X + 1},
            {"x": X.astype(">f4")},
        ],
    )
    def test_another_question_has_another(self, other: dict[str, Any]) -> None:
        assert digest(other) != digest({"x": X})

    def test_how_it_lies_in_memory_does_not_matter(self) -> None:
        wide = np.zeros((3, 8), np.float32)
        wide[:, ::2] = X
        for same in (X.copy(), np.asfortranarray(X), wide[:, ::2]):
            assert digest({"x": same}) == digest({"x": X})

    def test_nor_the_order_of_the_names(self) -> None:
        assert digest({"a": X, "b": X + 1}) == digest({"b": X + 1, "a": X})

    @given(INPUTS, INPUTS)
    def test_it_tells_bytes_apart(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        def whole(inputs: dict[str, Any]) -> object:
            return {name: (a.dtype, a.shape, a.tobytes()) for name, a in inputs.items()}

        assert (digest(one) == digest(other)) == (whole(one) == whole(other))


class TestCache:
    ROOM = 2 * (ENTRY_BYTES + X.nbytes)

    def test_what_was_kept_comes_back(self) -> None:
        cache = Cache(self.ROOM)
        assert cache.get(b"1") is None
        cache.put(b"1", {"y": X})
        found = cache.get(b"1")
        assert found is not None
        np.testing.assert_array_equal(found["y"], X)

    def test_the_one_not_asked_for_longest_goes(self) -> None:
        cache = Cache(self.ROOM)
        cache.put(b"1", {"y": X})
        cache.put(b"2", {"y": X})
        cache.get(b"1")
        cache.put(b"3", {"y": X})
        assert cache.counted() == {"cache_hits": 1}
        assert [key for key in (b"1", b"2", b"3") if cache.get(key)] == [b"1", b"3"]
        assert cache.counted() == {"cache_hits": 2, "cache_misses": 1}
        assert cache.counted() == {}

    def test_what_is_larger_than_all_is_not_kept_and_throws_nothing_out(self) -> None:
        cache = Cache(self.ROOM)
        cache.put(b"1", {"y": X})
        cache.put(b"2", {"y": np.zeros(self.ROOM, np.uint8)})
        assert (cache.get(b"1") is None, cache.get(b"2")) == (False, None)

    def test_nothing_of_zero_bytes(self) -> None:
        cache = Cache(0)
        cache.put(b"1", {"y": X})
        assert cache.get(b"1") is None

    def test_it_cannot_be_spoilt(self) -> None:
        rows = X.copy()
        cache = Cache(self.ROOM)
        cache.put(b"1", {"y": rows[:1]})
        rows[:] = -1
        found = cache.get(b"1")
        assert found is not None
        np.testing.assert_array_equal(found["y"], X[:1])
        with pytest.raises(ValueError, match="read-only"):
            found["y"][0] = 0

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000)), max_size=60))
    def test_it_never_holds_more_than_it_may(self, puts: list[tuple[int, int]]) -> None:
        cache = Cache(8000)
        for key, size in puts:
            cache.put(bytes([key]), {"y": np.zeros(size, np.uint8)})
            kept = [found["y"].nbytes for k in range(10) if (found := cache.get(bytes([k])))]
            assert sum(kept) + ENTRY_BYTES * len(kept) <= 8000
