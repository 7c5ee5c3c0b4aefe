"""What masks are made of: shares, fixed point, and keys that two have."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgekit_train import sealing, shamir
from edgekit_train.fixed_point import Encoding
from edgekit_train.shamir import PRIME, recover, split
from edgekit_train.update import Weights

SECRETS = st.binary(min_size=32, max_size=32)


@st.composite
def split_secrets(draw: st.DrawFn) -> tuple[bytes, int, dict[int, int]]:
    """A secret, its threshold and its shares."""
    places = draw(st.lists(st.integers(1, 1000), min_size=1, max_size=7, unique=True))
    secret, threshold = draw(SECRETS), draw(st.integers(1, len(places)))
    return secret, threshold, split(secret, threshold, places)


class TestShamir:
    @settings(deadline=None)
    @given(split_secrets(), st.randoms())
    def test_any_shares_that_are_enough_give_the_secret_back(
        self, case: tuple[bytes, int, dict[int, int]], random: object
    ) -> None:
        secret, threshold, shares = case
        for count in range(threshold, len(shares) + 1):
            chosen = random.sample(sorted(shares), count)  # type: ignore[attr-defined]
            assert recover({place: shares[place] for place in chosen}, threshold) == secret

    @settings(deadline=None)
    @given(split_secrets(), SECRETS)
    def test_fewer_fit_any_other_secret_as_well(self, case: tuple[bytes, int, dict[int, int]], other: bytes) -> None:
        _, threshold, shares = case
        assume(threshold > 1)
        few = dict(list(shares.items())[: threshold - 1])
        place = next(place for place in range(1, 1002) if place not in few)
        missing = self._completing(few, other, place)
        assert recover({**few, place: missing}, threshold) == other
        with pytest.raises(ValueError, match="are needed"):
            recover(few, threshold)

    @staticmethod
    def _completing(few: dict[int, int], other: bytes, place: int) -> int:
        """The share with which the others are those of another secret."""
        points = {0: int.from_bytes(other, "little"), **few}
        return shamir._at(points, place)

    @settings(deadline=None)
    @given(split_secrets(), st.integers(1, PRIME - 1), st.data())
    def test_a_wrong_share_among_more_than_are_needed_shows(
        self, case: tuple[bytes, int, dict[int, int]], off: int, data: st.DataObject
    ) -> None:
        _, threshold, shares = case
        assume(threshold < len(shares))
        place = data.draw(st.sampled_from(sorted(shares)))
        with pytest.raises(ValueError):
            recover({**shares, place: (shares[place] + off) % PRIME}, threshold)

    @pytest.mark.parametrize("shares", [{0: 1}, {1: -1}, {1: PRIME}, {PRIME: 1}, {1: PRIME - 1}])
    def test_what_is_no_share_is_refused(self, shares: dict[int, int]) -> None:
        with pytest.raises(ValueError, match="share"):
            recover(shares, 1)

    @pytest.mark.parametrize(
        ("secret", "threshold", "places"),
        [(b"short", 1, [1]), (bytes(32), 2, [1]), (bytes(32), 0, [1]), (bytes(32), 1, [1, 1]), (bytes(32), 1, [0, 1])],
    )
    def test_a_split_that_cannot_be_is_refused(self, secret: bytes, threshold: int, places: Sequence[int]) -> None:
        with pytest.raises(ValueError):
            split(secret, threshold, places)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[Encoding, list[Weights]]:
    count = draw(st.integers(1, 5))
    encoding = Encoding(draw(st.floats(1e-3, 100)), draw(st.integers(count, 40)))
    number = st.floats(-encoding.most, encoding.most)
    parts = []
    for _ in range(count):
        flat = np.array(draw(st.lists(number, min_size=5, max_size=5)))
        flat = np.clip(flat, -encoding.most, encoding.most).astype(np.float32)
        flat = np.where(np.abs(flat.astype(float)) > encoding.most, np.float32(0), flat)  # what float32 has rounded up
        parts.append({"b": flat[:4].reshape(2, 2), "a": np.asarray(flat[4])})
    return encoding, parts


class TestFixedPoint:
    @given(fleets())
    def test_the_sum_is_the_mean_within_half_a_step_for_each(self, case: tuple[Encoding, list[Weights]]) -> None:
        encoding, parts = case
        total = np.sum([encoding.encode(part) for part in parts], axis=0, dtype=np.uint32)
        mean = encoding.decode(total, len(parts), parts[0])
        for name in ("a", "b"):
            exact = sum(delta[name].astype(float) for delta in parts) / len(parts)
            off = 0.5 / encoding.scale
            assert np.all(np.abs(mean[name] - exact) <= off * 1.001 + 1e-7 * encoding.most)

    @given(fleets())
    def test_what_is_written_is_no_further_from_a_delta_than_it_says(
        self, case: tuple[Encoding, list[Weights]]
    ) -> None:
        encoding, (delta, *_) = case
        flat = np.concatenate([delta[name].reshape(-1) for name in ("a", "b")]).astype(np.float64)
        written = encoding.encode(delta).astype(np.int32) / encoding.scale
        assert np.linalg.norm(written - flat) <= encoding.rounding(5) * (1 + 1e-6)
        half = Encoding(1.0, 3).encode({"a": np.full(4, 0.5 / Encoding(1.0, 3).scale * 1.001, np.float32)})
        assert (half == 1).all() and Encoding(1.0, 3).rounding(4) == pytest.approx(1 / Encoding(1.0, 3).scale)

    def test_the_largest_sums_do_not_wrap(self) -> None:
        for parties in (3, 1000, 1 << 23):
            encoding = Encoding(8.0, parties)
            for number in (8.0, -8.0):
                vector = encoding.encode({"a": np.full(1, number, np.float32)})
                total = (vector.astype(np.uint64) * np.uint64(parties)).astype(np.uint32)
                mean = encoding.decode(total, parties, {"a": np.zeros(1)})
                assert mean["a"][0] == pytest.approx(number, rel=0.01)

    @pytest.mark.parametrize("number", [8.01, -9, np.nan, np.inf])
    def test_what_was_not_clipped_is_refused(self, number: float) -> None:
        with pytest.raises(ValueError, match="clip"):
            Encoding(8.0, 3).encode({"a": np.array([number], np.float32)})

    @pytest.mark.parametrize("arguments", [(0, 3), (np.nan, 3), (np.inf, 3), (1, 0), (1, (1 << 23) + 1)])
    def test_an_encoding_that_cannot_hold_a_sum_is_refused(self, arguments: tuple[float, ...]) -> None:
        with pytest.raises(ValueError):
            Encoding(*arguments)  # type: ignore[arg-type]

    def test_a_sum_of_something_else_is_refused(self) -> None:
        encoding, like = Encoding(8.0, 3), {"a": np.zeros(2)}
        for size, count in ((1, 3), (3, 3), (2, 0), (2, 4)):
            with pytest.raises(ValueError, match="sum"):
                encoding.decode(np.zeros(size, np.uint32), count, like)


class TestSealing:
    def test_rfc_7748_and_rfc_5869(self) -> None:
        """X25519 of RFC 7748, 6.1; what HKDF makes of its result is computed by hand, as RFC 5869 says."""
        alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
        bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
        agreed = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
        extracted = hmac.digest(bytes(32), agreed, hashlib.sha256)
        expanded = hmac.digest(extracted, b"edgekit masks 1 x\x01", hashlib.sha256)
        assert sealing.public(alice).hex().startswith("8520f0098930a754748b7ddcb43ef75a")
        assert sealing.shared(alice, sealing.public(bob), b"x") == expanded
        assert sealing.shared(bob, sealing.public(alice), b"x") == expanded

    def test_the_stream_is_that_of_rfc_8439(self) -> None:
        first = sealing.stream(bytes(32), 4).astype("<u4").tobytes()
        assert first.hex() == "76b8e0ada0f13d90405d6ae55386bd28"

    def test_what_was_changed_is_not_opened(self) -> None:
        sealed = sealing.seal(bytes(32), b"share", b"about")
        assert sealing.unseal(bytes(32), sealed, b"about") == b"share"
        for key, data, about in (
            (b"\1" * 32, sealed, b"about"),
            (bytes(32), sealed[:-1] + b"\0", b"about"),
            (bytes(32), sealed, b"else"),
            (bytes(32), b"", b"about"),
        ):
            with pytest.raises(ValueError, match="sealed"):
                sealing.unseal(key, data, about)

    def test_a_key_of_low_order_is_refused(self) -> None:
        with pytest.raises(ValueError):
            sealing.shared(b"\1" * 32, bytes(32), b"x")

    def test_without_cryptography_it_is_said_what_to_install(self) -> None:
        program = (
            "import sys; sys.modules['cryptography'] = None\n"
            "import edgekit_train.update, edgekit_train.compression\n"
            "from edgekit_runtime.errors import DeviceError\n"
            "try:\n    import edgekit_train.masks\n"
            "except DeviceError as error:\n    print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert "pip install 'edgekit-train[masks]'" in done.stdout
