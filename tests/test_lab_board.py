"""Boards as they tell of themselves."""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgekit import target
from edgekit.cli.simulate import _called
from edgekit.errors import DeviceError
from edgekit.lab import base_tree, card, limits, requirements
from edgekit.lab import board as boards
from edgekit.simulate import Kind
from edgekit_runtime import probe


@pytest.mark.parametrize(
    ("name", "model", "processor", "memory_mib"),
    [
        ("raspberry-pi-zero-2w", "Raspberry Pi Zero 2 W Rev 1.0", "cortex-a53", 512),
        ("raspberry-pi-4", "Raspberry Pi 4 Model B Rev 1.4", "cortex-a72", 1024),
        ("raspberry-pi-5", "Raspberry Pi 5 Model B Rev 1.0", "cortex-a76", 1024),
        ("jetson-orin", "NVIDIA Jetson Orin Nano Developer Kit", "cortex-a76", 4096),
        ("generic-aarch64", "Any 64-bit Arm Linux board with glibc 2.31", "cortex-a53", 1024),
    ],
)
def test_every_target_has_its_board(name: str, model: str, processor: str, memory_mib: int) -> None:
    board = boards.of(target.load(name))
    assert board.model.startswith(model)
    assert (board.processor.name, board.memory_mib) == (processor, memory_mib)
    shown = boards.hardware(board)
    assert probe.mebibytes(shown["proc/meminfo"], "MemTotal") == memory_mib
    assert shown["proc/cpuinfo"].count("processor\t:") == board.cores
    dot_product = "asimddp" in probe.cpu_flags(shown["proc/cpuinfo"])
    assert dot_product is (processor == "cortex-a76")


def test_a_processor_that_is_not_emulated_is_named() -> None:
    notes = {name: boards.of(target.load(name)).note for name in ("jetson-orin", "raspberry-pi-4", "generic-aarch64")}
    assert "cortex-a76, which stands in for the cortex-a78ae" in notes["jetson-orin"]
    assert not any("stands in" in notes[name] for name in ("raspberry-pi-4", "generic-aarch64"))
    assert all("its speed tells nothing" in note for note in notes.values())


def test_only_a_raspberry_pi_tells_of_throttling() -> None:
    assert boards.THROTTLED in boards.hardware(boards.of(target.load("raspberry-pi-4")))
    assert boards.THROTTLED not in boards.hardware(boards.of(target.load("jetson-orin")))


def test_a_temperature_that_somebody_set_stays(tmp_path: Path) -> None:
    board = boards.of(target.load("raspberry-pi-4"))
    boards.show(board, tmp_path)
    (tmp_path / boards.TEMPERATURE).write_text("85000\n")
    boards.show(board, tmp_path)
    assert (tmp_path / boards.TEMPERATURE).read_text() == "85000\n"
    assert (tmp_path / "sys/firmware/devicetree/base/model").read_text() == "Raspberry Pi 4 Model B Rev 1.4\0"


def test_a_target_of_this_machine_is_no_board() -> None:
    assert Kind.of(target.load(f"generic-{platform.machine().replace('_', '-')}")).board is None


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root on an x86-64 machine with no programs."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(requirements, "BINFMT", tmp_path / "none")


@pytest.mark.usefixtures("bare")
def test_what_is_missing_is_named_by_the_packages_that_have_it() -> None:
    told = requirements.lacking(emulated=True)
    assert told is not None
    assert "an emulated board needs programs that are not here; Debian: apt-get install apt coreutils" in told
    assert {"mmdebstrap", "qemu-user-static", "e2fsprogs"} <= set(told.split())
    told = requirements.lacking(emulated=False)
    assert told is not None
    assert told.startswith("a device with a card needs programs")
    assert "qemu" not in told


@pytest.mark.parametrize("emulated", [False, True])
def test_nobody_but_root_can_mount(monkeypatch: pytest.MonkeyPatch, emulated: bool) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "needs root, on Linux" in str(requirements.lacking(emulated=emulated))


def test_a_machine_that_is_arm_emulates_no_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert requirements.lacking(emulated=True) == "an emulated board needs an x86-64 machine"


def test_a_device_called_like_a_board_is_one() -> None:
    assert _called("raspberry-pi-4") == "raspberry-pi-4"
    assert _called("desk").startswith("generic-")


@pytest.mark.parametrize("version", [1, 2])
def test_limits_by_control_groups_of_either_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr(limits, "ROOT", tmp_path)
    kinds = {"memory": limits.FILES["memory"][version - 1], "blkio": limits.FILES["blkio"][version - 1]}
    for kind in kinds:
        (tmp_path / (kind if version == 1 else "")).mkdir(exist_ok=True)
    if version == 2:
        (tmp_path / "cgroup.controllers").touch()
    groups = limits.groups("edgekit-x")
    files = {kind: (groups[min(i, len(groups) - 1)] / name) for i, (kind, name) in enumerate(kinds.items())}
    for file in files.values():  # as a kernel would
        file.touch()
    assert limits.memory("edgekit-x", 100)
    assert limits.write_speed("edgekit-x", Path("/dev/null"), 1000)
    assert files["memory"].read_text() == f"{100 << 20}"
    assert files["blkio"].read_text() == ("1:3 1000" if version == 1 else "1:3 wbps=1000")
    limits.write_speed("edgekit-x", Path("/dev/null"), None)
    assert files["blkio"].read_text() == ("1:3 0" if version == 1 else "1:3 wbps=max")


def test_limits_that_this_machine_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ROOT", tmp_path / "nothing")
    assert limits.groups("edgekit-x") == []
    assert not limits.memory("edgekit-x", 100)
    assert not limits.write_speed("edgekit-x", Path("/dev/null"), 1000)
    limits.remove("edgekit-x")


def test_a_card_that_is_filled_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([0, 0, 0])

    def posix_fallocate(handle: int, offset: int, size: int) -> None:
        if next(given, None) is None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", posix_fallocate)
    card.fill(tmp_path)
    assert (tmp_path / card.FILLER).exists()
    card.clear(tmp_path)
    card.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


class TestBaseTree:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        return tmp_path / "edgekit" / "boards"

    def test_it_is_made_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(base_tree, "_make", lambda place: place.mkdir())
        told = list[str]()
        with ThreadPoolExecutor(4) as pool:
            places = {each.result() for each in [pool.submit(base_tree.ensure, told.append) for _ in range(4)]}
        assert len(places) == len(told) == 1

    def test_half_of_one_is_none(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def extract(root: Path) -> None:
            (root / "etc").mkdir(parents=True)
            raise DeviceError("no network")

        monkeypatch.setattr(base_tree, "_extract", extract)
        for _ in range(2):
            with pytest.raises(DeviceError, match="no network"):
                base_tree.ensure(lambda line: None)
            assert [file.suffix for file in cache.iterdir()] == [".lock"]
