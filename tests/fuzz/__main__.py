"""The command: atheris on every target, or on those that are named. ``make fuzz SECONDS=60``

    python -m tests.fuzz [--seconds N] [TARGET]…

Each runs in a process of its own for its share of the time, led by what it covers of edgekit. What is found is printed,
with the bytes that brought it; the status is the number of targets with a find.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HANGS_S, MOST_MIB, LONGEST = 5, 1024, 2048
NAMES = ("http", "infer", "predict", "manifest", "vectors", "patch", "task", "update", "letter")
DONE = re.compile(r"Done (\d+) runs in (\d+) second")
COVERS = re.compile(r"cov: (\d+)")


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description="Fuzz the parsers of what strangers send.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--seconds", type=int, default=60, help="for all of them together (default: 60)")
    parser.add_argument("--within", metavar="FOLDER", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    names = asked.targets or NAMES
    if not set(names) <= set(NAMES):
        parser.error(f"targets are {', '.join(NAMES)}")
    if asked.within:
        fuzz(names[0], Path(asked.within), asked.seconds)
    share = max(1, asked.seconds // len(names))
    return sum(not ran(name, share) for name in names)


def ran(name: str, seconds: int) -> bool:
    """Whether nothing was found in that time."""
    with tempfile.TemporaryDirectory(prefix="edgekit-fuzz-") as folder:
        command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(seconds), "--within", folder]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
    runs, covers = DONE.findall(done.stderr), COVERS.findall(done.stderr)
    if done.returncode or not runs or not covers:
        told = [line for line in done.stderr.splitlines() if not line.startswith(("#", "INFO"))]  # how it came to that
        print(f"{name}: status {done.returncode}", *told, sep="\n", flush=True)
        return False
    print(f"{name}: {int(runs[-1][0]):,} inputs in {runs[-1][1]} s, {covers[-1]} branches, nothing found", flush=True)
    return True


def fuzz(name: str, folder: Path, seconds: int) -> None:
    """Never comes back: libFuzzer ends this process."""
    import atheris

    with atheris.instrument_imports(include=["edgekit_runtime", "edgekit_server", "edgekit_train"]):
        from tests.fuzz.targets import TARGETS
    target, seeds = TARGETS[name], folder / "seeds"
    seeds.mkdir()
    for number, seed in enumerate(target.seeds()):
        (seeds / str(number)).write_bytes(seed)
    limits = (f"-max_total_time={seconds}", f"-timeout={HANGS_S}", f"-rss_limit_mb={MOST_MIB}", f"-max_len={LONGEST}")
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", str(seeds)], target.take)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
