"""Lab: devices behind SSH servers of their own, before each a relay that counts, and a project that has them all."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.federated.shown.lab import TARGET, Lab
from benchmarks.federated.wire.app import APP, App
from benchmarks.federated.wire.counts import Counts, Sent, total
from edgekit import fleet, signing, simulate, transports
from edgekit.cli.places import DEVICES
from edgekit.errors import DeviceError
from edgekit.federated.rounds import asking
from edgekit.fleet import Device
from edgekit.signing import Signer
from edgekit.transports import Options
from edgekit_train.letters import LEAST
from tests.lab.wire import Wire, through, wired

NAMES = tuple(f"pole-{number}" for number in range(LEAST))
ROUNDS = 2
"""So many are counted, and told of is their mean; a device keeps the files of no more."""
QUIET_S = 0.2
TOML = f'app = "{APP}"\nmodel = "model.onnx"\ntargets = ["{TARGET}"]\nsigning_key = "../key"\n'


@dataclass(frozen=True)
class Counted:
    """``wires``: the relay before each device, by its name."""

    made: Lab
    wires: dict[str, Wire]

    def round(self, names: Sequence[str], *how: str) -> Sent:
        """For one of these devices in one round. What is asked once for each command, see ``look``, is left out."""
        looks, before = total(map(self.look, names)), self._so_far(names)
        meant = [word for name in names for word in ("--to", name)]
        asked = [*meant, "--rounds", str(ROUNDS), "--from", "model", "--quorum", "100%", *how]
        told = self.made.edgekit("round", "start", *asked)["rounds"]
        went = self._so_far(names) - before - looks
        files = total(self._files(str(each["key"]), part) for each in told for part in each["devices"])
        return Sent(went.over(ROUNDS * len(names)), files.over(ROUNDS * len(names)))

    def connection(self, name: str) -> Counts:
        """That is made and ended, and on which nothing is asked."""
        before = self._so_far([name])
        with transports.connect(self._uri(name), Options()):
            pass
        return self._so_far([name]) - before

    def look(self, name: str) -> Counts:
        """A connection on which is asked which model is live."""
        before = self._so_far([name])
        live = asking.look(Device(name, self._uri(name), TARGET), APP)
        if live.error:
            raise DeviceError(f"{name}: {live.error['message']}")
        return self._so_far([name]) - before

    def _so_far(self, names: Sequence[str]) -> Counts:
        """Once nothing moves any more."""
        last, now = None, self._passed(names)
        while last != now:
            time.sleep(QUIET_S)
            last, now = now, self._passed(names)
        return now

    def _passed(self, names: Sequence[str]) -> Counts:
        return total(Counts(self.wires[name].up, self.wires[name].down) for name in names)

    def _files(self, key: str, part: dict[str, Any]) -> Counts:
        """Of a device: the task that it was sent, and what it has sent, as the store tells it."""
        if not part["facts"]:
            raise DeviceError(f"{part['device']}: sent nothing: {part['error']}")
        task = self.made.homes[part["device"]] / "rounds" / APP / key / "task.safetensors"
        return Counts(task.stat().st_size, part["facts"]["bytes"])

    def _uri(self, name: str) -> str:
        return fleet.find(self.made.project, name).uri


@contextmanager
def lab(app: App) -> Iterator[Counted]:
    """Devices that serve the app and have samples, until the block ends."""
    with TemporaryDirectory(prefix="edgekit-benchmark-") as place, ExitStack() as held:
        made, wires = Lab(Path(place), {}), dict[str, Wire]()
        signer = _write_project(made, app)
        for seed, name in enumerate(NAMES):
            held.callback(simulate.stop, name, made.project / DEVICES)
            device = simulate.start(name, made.project / DEVICES)
            if device.kind != "ssh":
                raise DeviceError(f"no bytes to count: {device.note}", "install openssh-server")
            app.install(device.home, made.folder / "bundles" / name, signer, seed)
            made.homes[name] = device.home
            wires[name] = held.enter_context(wired(device))
            fleet.add(made.project, Device(name, through(device, wires[name], made.folder), TARGET))
        yield Counted(made, wires)


def _write_project(made: Lab, app: App) -> Signer:
    for place in (made.project, made.folder / "person"):
        place.mkdir()
    (made.project / "model.onnx").write_bytes(app.model)
    (made.project / "edgekit.toml").write_text(TOML)
    signing.make(made.folder / "key")
    return signing.signer(made.folder / "key")
