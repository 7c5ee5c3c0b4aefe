from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit import fleet
from edgekit.errors import ConfigError
from edgekit.fleet import Device

KITCHEN = Device("kitchen", "ssh://pi@kitchen.local", "raspberry-pi-5", ("site=berlin",))

COMMENTED = """\
# All of ours.

[devices.kitchen] # by the window
uri = "ssh://pi@kitchen.local:22" # wired
target = "raspberry-pi-5"
tags = [
  "site=berlin", # since May
]

# The one that stands alone:
[devices."gate"]
uri = "ssh://gate"
target = "pi"

# Sold:
# [devices.cellar]
"""


def text(folder: Path, content: str | None = None) -> str:
    if content is not None:
        (folder / "fleet.toml").write_text(content)
    return (folder / "fleet.toml").read_text()


def comments(content: str) -> list[str]:
    return [line.partition("#")[2] for line in content.splitlines() if "#" in line]


class TestReading:
    def test_no_file_is_an_empty_fleet(self, tmp_path: Path) -> None:
        assert fleet.load(tmp_path) == ()

    def test_all_of_it_in_its_order(self, tmp_path: Path) -> None:
        text(tmp_path, COMMENTED)
        assert fleet.load(tmp_path) == (
            Device("kitchen", "ssh://pi@kitchen.local:22", "raspberry-pi-5", ("site=berlin",)),
            Device("gate", "ssh://gate", "pi"),
        )

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (
                "[devices.a]\nuri = 'x:'\ntaget = 'pi'\n",
                "fleet.toml: devices.a.taget: unknown key — did you mean 'target'?",
            ),
            ("[device.a]\n", "fleet.toml: device: unknown key — did you mean 'devices'?"),
            (
                "[devices.a]\nuri = 1\ntarget = 'pi'\n",
                'fleet.toml: devices.a.uri: expected str, got int — write "1", in quotes',
            ),
            ("[devices.a]\nuri = 'x:'\n", "fleet.toml: devices.a.target: missing"),
            (
                "[devices.a]\nuri='x:'\ntarget='pi'\ntags='b'\n",
                'fleet.toml: devices.a.tags: expected array, got str — write ["b"], in brackets',
            ),
            ("[devices.a\n", "fleet.toml: not TOML: "),
            ("[devices.Ab]\nuri='x:'\ntarget='pi'\n", "fleet.toml: devices.Ab: "),
        ],
    )
    def test_a_mistake_is_told_by_its_key(self, tmp_path: Path, content: str, told: str) -> None:
        text(tmp_path, content)
        with pytest.raises(ConfigError) as caught:
            fleet.load(tmp_path)
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)


class TestFinding:
    def test_by_name_or_the_only_one(self, tmp_path: Path) -> None:
        fleet.add(tmp_path, KITCHEN)
        assert fleet.find(tmp_path, "kitchen") == fleet.find(tmp_path, None) == KITCHEN

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("kichen", "no device 'kichen' in fleet.toml — did you mean 'kitchen'?"),
            ("x", "no device 'x' in fleet.toml — it has kitchen, gate"),
            (None, "which device? — fleet.toml has kitchen, gate: name one"),
        ],
    )
    def test_what_is_not_found(self, tmp_path: Path, name: str | None, told: str) -> None:
        text(tmp_path, COMMENTED)
        with pytest.raises(ConfigError) as caught:
            fleet.find(tmp_path, name)
        assert str(caught.value) == told

    def test_an_empty_fleet_says_how_to_fill_it(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no devices") as caught:
            fleet.find(tmp_path, "kitchen")
        assert "edgekit device add" in (caught.value.hint or "")


class TestWriting:
    def test_what_is_added_is_read_again(self, tmp_path: Path) -> None:
        fleet.add(tmp_path, KITCHEN)
        fleet.add(tmp_path, Device("gate", "local:/tmp/a b", "pi"))
        assert fleet.load(tmp_path) == (KITCHEN, Device("gate", "local:/tmp/a b", "pi"))
        assert text(tmp_path).startswith("[devices.kitchen]\n")

    def test_comments_survive(self, tmp_path: Path) -> None:
        text(tmp_path, COMMENTED)
        fleet.add(tmp_path, Device("desk", "local:/tmp", "pi"))
        assert text(tmp_path).startswith(COMMENTED)
        fleet.remove(tmp_path, "desk")
        assert text(tmp_path).rstrip() == COMMENTED.rstrip()

    @pytest.mark.parametrize(("name", "own"), [("kitchen", [" by the window", " wired", " since May"]), ("gate", [])])
    def test_a_device_leaves_with_its_own_comments_only(self, tmp_path: Path, name: str, own: list[str]) -> None:
        text(tmp_path, COMMENTED)
        fleet.remove(tmp_path, name)
        assert comments(text(tmp_path)) == [line for line in comments(COMMENTED) if line not in own]
        assert [each.name for each in fleet.load(tmp_path)] == [n for n in ("kitchen", "gate") if n != name]

    @pytest.mark.parametrize(
        "content",
        [
            "devices = {a = {uri = 'x:', target = 'pi'}, b = {uri = 'y:', target = 'pi'}} # all\n",
            "[devices]\na = {uri = 'x:', target = 'pi'}\n# more\nb.uri = 'y:'\nb.target = 'pi'\n",
            "devices.a.uri = 'x:'\ndevices.a.target = 'pi'\ndevices.b.uri = 'y:'\ndevices.b.target = 'pi' # all\n",
        ],
        ids=["inline", "mixed", "dotted"],
    )
    def test_other_ways_to_write_it(self, tmp_path: Path, content: str) -> None:
        text(tmp_path, content)
        fleet.add(tmp_path, Device("c", "local:/c", "pi"))
        fleet.remove(tmp_path, "a")
        assert [(each.name, each.uri) for each in fleet.load(tmp_path)] == [("b", "y:"), ("c", "local:/c")]
        assert comments(text(tmp_path)) == comments(content)

    @pytest.mark.parametrize("wrong", ["devices.a = [", "[devices.a]\nuri = 'x:'\n"], ids=["no TOML", "another text"])
    def test_a_text_that_does_not_say_what_it_should_is_never_written(self, tmp_path: Path, wrong: str) -> None:
        text(tmp_path, COMMENTED)
        with pytest.raises(ConfigError, match="written in a way that edgekit cannot change") as caught:
            fleet._write(tmp_path / "fleet.toml", [lambda: wrong], {"a": {"uri": "y:"}})
        assert caught.value.hint == "edit it by hand"
        assert text(tmp_path) == COMMENTED

    def test_who_is_not_there_is_not_removed(self, tmp_path: Path) -> None:
        fleet.remove(tmp_path, "desk")
        assert not (tmp_path / "fleet.toml").exists()
        text(tmp_path, COMMENTED)
        fleet.remove(tmp_path, "desk")
        assert text(tmp_path) == COMMENTED

    def test_a_duplicate_is_refused_and_replaced_only_on_demand(self, tmp_path: Path) -> None:
        text(tmp_path, COMMENTED)
        moved = Device("kitchen", "local:/tmp", "pi")
        with pytest.raises(ConfigError, match="has a device 'kitchen' already"):
            fleet.add(tmp_path, moved)
        assert text(tmp_path) == COMMENTED
        fleet.add(tmp_path, moved, replace=True)
        assert fleet.find(tmp_path, "kitchen") == Device("kitchen", "local:/tmp", "pi", ("site=berlin",))
        assert comments(text(tmp_path)) == comments(COMMENTED)

    @pytest.mark.parametrize("name", ["", "A", "a b", "-x", "../x", "a/b", "ä", "x" * 65, "a\n"])
    def test_names_that_are_none(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigError) as caught:
            fleet.add(tmp_path, Device(name, "ssh://pi", "pi"))
        assert "fleet.toml: devices" in str(caught.value)
        assert not (tmp_path / "fleet.toml").exists()

    @pytest.mark.parametrize(
        "uri",
        ["", "kitchen", "pi@kitchen", "http://kitchen", "ssh://", "ssh://pi:secret@kitchen", "ssh://pi@kitchen/folder",
         "ssh://kitchen:99999", "ssh://-oProxyCommand=x", "local:", "local://host/x", "local:/x?y", "//kitchen"],
    )  # fmt: skip
    def test_uris_that_no_transport_takes(self, tmp_path: Path, uri: str) -> None:
        with pytest.raises(ConfigError) as caught:
            fleet.add(tmp_path, Device("kitchen", uri, "pi"))
        assert re.search(r"is no .*URI|must not hold a password|names no host", caught.value.message)
        assert caught.value.hint
        assert not (tmp_path / "fleet.toml").exists()

    def test_a_file_that_is_wrong_already_is_left_alone(self, tmp_path: Path) -> None:
        text(tmp_path, "[devices.a]\n")
        for change in (lambda: fleet.add(tmp_path, KITCHEN), lambda: fleet.remove(tmp_path, "a")):
            with pytest.raises(ConfigError):
                change()
        assert text(tmp_path) == "[devices.a]\n"

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True),
                st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
                st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3),
            ),
            unique_by=lambda entry: entry[0],
            max_size=5,
        )
    )
    def test_whatever_is_added_is_read_again(self, tmp_path_factory: pytest.TempPathFactory, entries: list) -> None:
        folder = tmp_path_factory.mktemp("fleet")
        given_devices = [Device(name, "ssh://pi", target, tuple(tags)) for name, target, tags in entries]
        for device in given_devices:
            fleet.add(folder, device)
        assert list(fleet.load(folder)) == given_devices
        for device in given_devices[::2]:
            fleet.remove(folder, device.name)
        assert list(fleet.load(folder)) == given_devices[1::2]
        if given_devices:
            assert tomllib.loads(text(folder)).get("devices", {}).keys() == {d.name for d in given_devices[1::2]}

    def test_bom_and_windows_line_ends(self, tmp_path: Path) -> None:
        (tmp_path / "fleet.toml").write_bytes(b"\xef\xbb\xbf" + COMMENTED.replace("\n", "\r\n").encode())
        fleet.add(tmp_path, Device("desk", "local:/tmp", "pi"))
        assert [each.name for each in fleet.load(tmp_path)] == ["kitchen", "gate", "desk"]
