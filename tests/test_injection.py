"""Whatever a name is, a device neither runs it nor writes by it: names reach it as arguments, JSON and paths.

Every name holds a command that would leave a file, in the ways in which shells, OpenSSH, argparse and paths can be led
astray. Both transports; the real commands of the runtime behind them.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgekit import device as devices
from edgekit import fleet, provision, transports, trust
from edgekit import target as targets
from edgekit.config import decode
from edgekit.errors import ConfigError, EdgekitError
from edgekit.fleet import Device
from edgekit.push import open_parcel
from edgekit.simulate import Simulated
from edgekit.transports import Transport
from edgekit_runtime.home import NAME
from edgekit_runtime.manifest import EngineNeed
from tests.lab.bundles import TARGET, make_bundle
from tests.lab.project import Served, project, served, served_pi, tree
from tests.lab.sshd import needs_sshd
from tests.test_push import install_unchecked

__all__ = ["project", "served", "served_pi"]  # fixtures

CANARY = "canary-of-an-injection"
WAYS = (
    "; {}",
    "$({})",
    "`{}`",
    "| {}",
    "&& {}",
    "\n{}\n",
    "'; {}; '",
    '"; {}; "',
    "\\'; {}; #",
    "${IFS}$({})",
    "$'\\n'{}",
    "-oProxyCommand={}",
    "--help; {}",
    "%s%n{}",
    "../../../{}",
    "~/$({})",
    "\r\n{}",
    "{}\0",
    "a b\tc; {}",
    "é\udcff$({})",
)
names = st.builds(
    lambda before, way, after: f"{before}{way}{after}",
    st.sampled_from(["", "a", "scores", "-", "--", "sha256:" + "0" * 64, "ssh-ed25519 AAAA"]),
    st.sampled_from(WAYS),
    st.text(max_size=8),
)
many = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
thorough = settings(many, max_examples=60)


@pytest.fixture
def armed(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Puts the command into a name; afterwards nothing may have come of it, anywhere that it could reach."""
    command = f"touch {shlex.quote(str(tmp_path / CANARY))} {CANARY}"
    yield lambda name: name.replace("{}", command)
    assert not [place for place in (Path.cwd(), Path.home(), Path("/")) if (place / CANARY).exists()]
    assert not [path for path in tmp_path.rglob("*") if path.name == CANARY]


def carried(link: Transport, name: str) -> None:
    """As an argument it arrives as it is, or not at all."""
    try:
        done = link.run(["printf", "%s", name])
    except ConfigError:
        assert "\0" in name or not _text(name)
    else:
        assert done.stdout == name.encode(errors="surrogateescape")


def _text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def asked(link: Transport, name: str) -> None:
    """Every command of the runtime that takes a name gets it, and refuses it by a line."""
    digest = f"sha256:{'0' * 64}"
    calls: list[tuple[tuple[str, ...], dict[str, Any] | None]] = [
        (("activate", name, digest), None),
        (("prove", "digits", name), None),
        (("rollback", name), None),
        (("trust",), {"line": name}),
        (("trust",), {"line": f'{name} namespaces="edgekit" ssh-ed25519 AAAA'}),
        (("revoke",), {"key": name}),
    ]
    for words, stdin in calls:
        with pytest.raises(EdgekitError) as caught:
            devices.call(link, *words, stdin=stdin)
        assert "Traceback" not in str(caught.value)
    ordered(link, name, name)
    ordered(link, name, digest)


def ordered(link: Transport, name: str, digest: str) -> None:
    """A push of a bundle whose every part is called so."""
    with pytest.raises(EdgekitError) as caught, devices.conversing(link, "push", name) as there:
        there.hear()
        there.ask({"blobs": [{"mediaType": name, "digest": digest, "size": 1}], "known": [name]})
        there.ask({"digest": digest, "signature": name})
    assert "Traceback" not in str(caught.value)


class TestLocal:
    @many
    @given(names)
    def test_an_argument(self, served: Served, armed: Callable[[str], str], name: str) -> None:
        with transports.connect(served.device.uri) as link:
            carried(link, armed(name))

    @pytest.mark.slow
    @settings(thorough, max_examples=15)
    @given(names)
    def test_names_that_the_runtime_gets(self, served: Served, armed: Callable[[str], str], name: str) -> None:
        before = tree(served.home / "apps"), tree(served.home / "trust")
        with transports.connect(served.device.uri) as link:
            asked(link, armed(name))
        assert (tree(served.home / "apps"), tree(served.home / "trust")) == before

    @many
    @given(names)
    def test_a_path(self, served: Served, armed: Callable[[str], str], name: str) -> None:
        """As a device's home, and as a file there."""
        folder = armed(name).replace("/", "_").replace("\0", "") or "x"
        if not _text(folder) or folder in (".", "..") or len(folder.encode()) > 200:
            return
        with (
            tempfile.TemporaryDirectory(dir=served.home) as homes,
            transports.connect(f"local:{quote(f'{homes}/{folder}')}") as link,
        ):
            (served.home / "source").write_bytes(b"1")
            link.put(served.home / "source", folder)
            link.run(["sh", "-c", provision.HAS_ENV, "edgekit", folder, folder])
            link.get(folder, served.home / "back")
            assert [str(path.relative_to(homes)) for path in Path(homes).rglob("*")] == [folder, f"{folder}/{folder}"]
        assert (served.home / "back").read_bytes() == b"1"

    @many
    @given(names, st.sampled_from(["package", "version"]))
    @example("--index-url=http://{}", "package")
    @example("edgekit @ http://127.0.0.1/{}", "package")
    @example(" @ http://{}", "version")
    def test_what_pip_gets(self, project: Path, armed: Callable[[str], str], name: str, key: str) -> None:
        """An engine's package and version stand in a profile, which may come from somebody else."""
        profile = targets.load(TARGET)
        engine = {**msgspec.to_builtins(profile.engines[0]), key: armed(name)}
        with pytest.raises(ConfigError, match=rf"engine\[0\].{key}"):
            decode({**msgspec.to_builtins(profile), "engine": [engine]}, targets.Target, Path("own.toml"))

    @pytest.mark.slow
    @settings(many, max_examples=5)
    @given(names)
    def test_an_engine_s_name(self, served: Served, armed: Callable[[str], str], name: str) -> None:
        """In a manifest that is signed."""
        if not _text(armed(name)):
            return
        number = len(list(served.home.glob("made-*")))
        needs = (EngineNeed(armed(name), armed(name), (armed(name),)),)
        made = make_bundle(served.home / f"made-{number}", sequence=3, engines=needs)
        with transports.connect(served.device.uri) as link:
            install_unchecked(open_parcel(made.root), link)
            with pytest.raises(EdgekitError) as caught:
                devices.call(link, "prove", "digits", made.digest)
        assert caught.value.code in ("engine_not_installed", "engine", "proof_failed")

    @many
    @given(names)
    def test_a_device_s_name(self, project: Path, armed: Callable[[str], str], name: str) -> None:
        name = armed(name)
        assert not NAME.fullmatch(name)
        with pytest.raises(ConfigError):
            fleet.add(project, Device(name, f"local:{project / 'x'}", TARGET))
        assert not (project / fleet.FILE).exists()


@needs_sshd
@pytest.mark.slow
class TestSSH:
    @thorough
    @given(names)
    @example("x$({})")
    def test_an_argument(self, served_pi: Simulated, armed: Callable[[str], str], name: str) -> None:
        with transports.connect(served_pi.uri) as link:
            carried(link, armed(name))

    @settings(thorough, max_examples=15)
    @given(names)
    def test_names_that_the_runtime_gets(self, served_pi: Simulated, armed: Callable[[str], str], name: str) -> None:
        home = served_pi.home
        before = tree(home / "apps"), tree(home / "trust")
        with transports.connect(served_pi.uri) as link:
            asked(link, armed(name))
        assert (tree(home / "apps"), tree(home / "trust")) == before

    @thorough
    @given(names)
    def test_a_path(self, served_pi: Simulated, armed: Callable[[str], str], name: str) -> None:
        file = armed(name).replace("/", "_").replace("\0", "") or "x"
        if not _text(file) or file in (".", "..") or len(file.encode()) > 200:
            return
        with transports.connect(served_pi.uri) as link, devices.scratch(link, str(served_pi.home), "try") as place:
            source = served_pi.home / "source"
            source.write_bytes(b"1")
            link.put(source, f"{place}/{file}")
            link.get(f"{place}/{file}", served_pi.home / "back")
            assert [path.name for path in Path(place).iterdir()] == [file]
        assert (served_pi.home / "back").read_bytes() == b"1"

    @settings(thorough, max_examples=10)
    @given(names)
    def test_a_signer_s_name(self, served_pi: Simulated, armed: Callable[[str], str], name: str) -> None:
        before = tree(served_pi.home / "trust")
        with transports.connect(served_pi.uri) as link:
            with pytest.raises(EdgekitError):
                trust.add(link, trust.Signer(armed(name), "ssh-ed25519 AAAA"))
            with pytest.raises(ConfigError):
                trust.revoke(link, armed(name))
        assert tree(served_pi.home / "trust") == before
