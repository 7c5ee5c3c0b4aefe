"""Board: what an emulated device shows of itself, as far as an emulated processor can keep its word."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.target import Target


@dataclass(frozen=True)
class Processor:
    """One that qemu emulates: its name there, ARM's numbers for it, what a board's kernel says that it can do."""

    name: str
    part: str
    variant: str
    revision: int
    features: str


_PI = "fp asimd evtstrm crc32 cpuid"
_A76 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
PROCESSORS = {
    "cortex-a53": Processor("cortex-a53", "0xd03", "0x0", 4, _PI),
    "cortex-a72": Processor("cortex-a72", "0xd08", "0x0", 3, _PI),
    "cortex-a76": Processor("cortex-a76", "0xd0b", "0x4", 1, _A76),
}
STAND_INS = {"cortex-a78ae": "cortex-a76", "carmel": "cortex-a72"}
"""The nearest that can no more than the real one: a program that needs more dies on both. (Carmel has no asimddp.)"""
LEAST = "cortex-a53"

MODELS = {
    "raspberry-pi-zero-2w": "Raspberry Pi Zero 2 W Rev 1.0",
    "raspberry-pi-4": "Raspberry Pi 4 Model B Rev 1.4",
    "raspberry-pi-5": "Raspberry Pi 5 Model B Rev 1.0",
    "jetson-orin": "NVIDIA Jetson Orin Nano Developer Kit",
    "jetson-xavier": "NVIDIA Jetson Xavier NX Developer Kit",
}

_CORE = """\
processor\t: {core}
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: {variant}
CPU part\t: {part}
CPU revision\t: {revision}

"""
_MEMORY = """\
MemTotal:       {total:>8} kB
MemFree:        {free:>8} kB
MemAvailable:   {free:>8} kB
Buffers:               0 kB
Cached:                0 kB
SwapTotal:             0 kB
SwapFree:              0 kB
"""
SYSTEM_MIB = 96
"""What a board's own system takes of its memory, about."""
CPUS = "sys/devices/system/cpu"
TEMPERATURE = "sys/class/thermal/thermal_zone0/temp"
"""Thousandths of a degree Celsius."""
THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
"""Raspberry Pi's bits, in hexadecimal."""


@dataclass(frozen=True)
class Board:
    """A kind of device; ``wanted`` is the processor that it really has."""

    model: str
    processor: Processor
    wanted: str
    cores: int
    memory_mib: int

    @property
    def note(self) -> str:
        """What it is, and what it is not."""
        known = {self.processor.name, "armv8-a", ""}
        instead = "" if self.wanted in known else f", which stands in for the {self.wanted}"
        return f"{self.model}: Debian 12, emulated on a {self.processor.name}{instead}; its speed tells nothing"


def of(target: Target) -> Board:
    """The board that a target stands for."""
    name = target.cpu if target.cpu in PROCESSORS else STAND_INS.get(target.cpu, LEAST)
    model = MODELS.get(target.name, target.description or target.name)
    return Board(model, PROCESSORS[name], target.cpu, target.threads, target.memory_mib)


def hardware(board: Board) -> dict[str, str]:
    """The files by which a kernel would tell of it, by their place in the root.

    (onnxruntime for aarch64 dies when it is imported beside an x86 cpuinfo.)
    """
    chip = board.processor
    facts = {"features": chip.features, "variant": chip.variant, "part": chip.part, "revision": chip.revision}
    cores = "".join(_CORE.format(core=core, **facts) for core in range(board.cores))
    memory = _MEMORY.format(total=board.memory_mib << 10, free=max(board.memory_mib - SYSTEM_MIB, 0) << 10)
    files = {"proc/cpuinfo": f"{cores}Model\t\t: {board.model}\n", "proc/meminfo": memory}
    files |= {f"{CPUS}/{name}": f"0-{board.cores - 1}\n" for name in ("online", "possible", "present")}
    files |= {"sys/firmware/devicetree/base/model": f"{board.model}\0", TEMPERATURE: "45000\n"}
    return files | ({THROTTLED: "0\n"} if board.model.startswith("Raspberry") else {})


def show(board: Board, folder: Path) -> None:
    """Write the files into a folder; those that are there stay, so that a person's temperature does."""
    for name, text in hardware(board).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text(text)
