"""Hooks: what executables of a project hear of a push, and what they can stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import hooks, transports
from edgekit import push as pushing
from edgekit.errors import DeviceError, EngineNotInstalled, HookError
from edgekit.hooks import Event
from edgekit.transports import Transport
from edgekit_runtime import states
from edgekit_runtime.manifest import EngineNeed
from tests.lab.bundles import TARGET, make_bundle
from tests.lab.project import Served, edgekit, project, served, tree

__all__ = ["project", "served"]  # fixtures

EVENT = Event("kitchen", "ssh://pi@kitchen.local", "digits", "sha256:" + "a" * 64, bundle="/b u/n'dle")
NOTE = """\
#!/bin/sh
echo "$(pwd) $EDGEKIT_HOOK $EDGEKIT_DEVICE $EDGEKIT_OUTCOME" >&2
env | grep ^EDGEKIT_ | sort > "$EDGEKIT_HOOK.$EDGEKIT_DEVICE.env"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hooks").mkdir()
    return tmp_path / "hooks"


def hook(folder: Path, name: str, text: str = NOTE, mode: int = 0o755) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(mode)
    return folder / name


def heard(folder: Path, name: str, device: str = "kitchen") -> dict[str, str]:
    lines = (folder.parent / f"{name}.{device}.env").read_text().splitlines()
    return {key.removeprefix("EDGEKIT_").lower(): value for key, _, value in (line.partition("=") for line in lines)}


class TestRun:
    def test_it_stands_in_the_project_and_hears_all(self, folder: Path) -> None:
        hook(folder, "pre-push")
        told: list[str] = []
        hooks.run("pre-push", EVENT, folder, told.append)
        assert told == [f"pre-push: {folder.parent} pre-push kitchen"]
        found = heard(folder, "pre-push")
        assert found["bundle"] == EVENT.bundle
        assert {key: found[key] for key in ("uri", "app", "release", "previous", "error")} == {
            "uri": EVENT.uri, "app": "digits", "release": EVENT.release, "previous": "", "error": ""
        }  # fmt: skip

    def test_a_project_without_hooks(self, tmp_path: Path) -> None:
        hooks.run("pre-push", EVENT, tmp_path / "hooks", pytest.fail)

    @pytest.mark.parametrize(
        ("text", "mode", "told"),
        [
            (NOTE, 0o644, "hooks/pre-push is not executable — chmod +x "),
            ("no program", 0o755, "hooks/pre-push cannot be run: Exec format error — "),
            ("#!/no/such\n", 0o755, "hooks/pre-push cannot be run: No such file or directory"),
            ("#!/bin/sh\necho a; echo not on Fridays; exit 3\n", 0o755, "ended with status 3: not on Fridays"),
            ("#!/bin/sh\nprintf '\\377'; kill -9 $$\n", 0o755, "hooks/pre-push ended with status -9: \ufffd"),
        ],
    )
    def test_what_stops_a_push(self, folder: Path, text: str, mode: int, told: str) -> None:
        hook(folder, "pre-push", text, mode)
        with pytest.raises(HookError) as caught:
            hooks.run("pre-push", EVENT, folder, lambda line: None)
        assert told in str(caught.value)

    def test_a_folder_is_no_hook(self, folder: Path) -> None:
        (folder / "pre-push").mkdir()
        with pytest.raises(HookError, match="not executable"):
            hooks.run("pre-push", EVENT, folder, lambda line: None)

    def test_it_is_not_waited_for_without_end(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nor for what it leaves behind."""
        monkeypatch.setattr(hooks, "TIMEOUT_S", 2.0)
        hook(folder, "pre-push", "#!/bin/sh\nsleep 60 &\necho started\n")
        started = time.monotonic()
        with pytest.raises(HookError, match=r"hooks/pre-push did not end within 2 s: started"):
            hooks.run("pre-push", EVENT, folder, lambda line: None)
        assert time.monotonic() - started < 30


class TestAround:
    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            (None, ("live", "")),
            (DeviceError("no"), ("failed", "device")),
            (KeyboardInterrupt(), ("failed", "interrupted")),
        ],
    )
    def test_post_push_hears_how_it_ended(
        self, folder: Path, error: BaseException | None, outcome: tuple[str, str]
    ) -> None:
        hook(folder, "post-push")
        try:
            with hooks.around(EVENT, folder, lambda line: None):
                if error:
                    raise error
        except type(error or ValueError()) as caught:
            assert caught is error
        found = heard(folder, "post-push")
        assert (found["outcome"], found["error"]) == outcome

    def test_post_push_changes_nothing(self, folder: Path) -> None:
        hook(folder, "post-push", "#!/bin/sh\nexit 1\n")
        told: list[str] = []
        with hooks.around(EVENT, folder, told.append):
            pass
        assert told == ["hooks/post-push ended with status 1"]

    def test_what_pre_push_refuses_does_not_happen(self, folder: Path) -> None:
        hook(folder, "pre-push", "#!/bin/sh\nexit 1\n")
        hook(folder, "post-push")
        with pytest.raises(HookError), hooks.around(EVENT, folder, lambda line: None):
            pytest.fail("it happened")
        assert not (folder.parent / "post-push.kitchen.env").exists()


def confirm(served: Served) -> None:
    """Let the release that serves be one to go back to."""
    folder = (served.home / "apps/digits/current").resolve()
    states.write(folder, states.read(folder), "good")


class TestPush:
    """Every push and every rollback goes through the functions that are called here."""

    @pytest.fixture
    def link(self, served: Served) -> Iterator[Transport]:
        with transports.connect(served.device.uri) as opened:
            yield opened

    def test_all_three(self, project: Path, served: Served, link: Transport) -> None:
        for name in ("pre-push", "post-push", "on-rollback"):
            hook(project / "hooks", name)
        confirm(served)
        third, told = make_bundle(project / "bundles/third", sequence=3), list[str]()
        pushing.push(pushing.open_parcel(Path("bundles/third")), served.device, link, told.append)
        assert told[0] == f"pre-push: {project} pre-push desk"
        before, after = (heard(project / "hooks", name, "desk") for name in ("pre-push", "post-push"))
        assert before | {"outcome": "live", "hook": "post-push"} == after
        assert (before["release"], before["previous"]) == (third.digest, served.second.digest)
        assert (before["uri"], before["bundle"]) == (served.device.uri, str(project / "bundles/third"))
        pushing.rollback("digits", served.device, link, told.append)
        left = heard(project / "hooks", "on-rollback", "desk")
        assert (left["release"], left["previous"]) == (served.second.digest, third.digest)

    def test_a_refusal_sends_nothing(self, project: Path, served: Served) -> None:
        hook(project / "hooks", "pre-push", "#!/bin/sh\necho frozen until Monday; exit 1\n")
        make_bundle(project / f"bundles/{TARGET}", sequence=3)
        before = tree(served.home)
        ran = edgekit("push", "--json", status=1)
        [failed] = ran.document["devices"]
        told = "desk: hooks/pre-push ended with status 1: frozen until Monday"
        assert failed["error"] == {"code": "hook", "message": told, "hint": None}
        assert tree(served.home) == before

    def test_a_failed_push_is_heard_of(self, project: Path, served: Served, link: Transport) -> None:
        hook(project / "hooks", "post-push")
        made = make_bundle(project / f"bundles/{TARGET}", sequence=3, engines=(EngineNeed("litert"),))
        with pytest.raises(EngineNotInstalled):
            pushing.push(pushing.open_parcel(made.root), served.device, link, lambda line: None)
        found = heard(project / "hooks", "post-push", "desk")
        assert (found["outcome"], found["error"]) == ("failed", "engine_not_installed")
