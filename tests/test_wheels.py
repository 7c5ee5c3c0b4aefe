from __future__ import annotations

import email
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

import edgekit_runtime
import edgekit_server
from edgekit import brought, target, wheels
from edgekit.errors import DeviceError, EdgekitError
from edgekit.wheels import Python
from tests.lab.project import project

__all__ = ["project"]  # a fixture
pytestmark = pytest.mark.usefixtures("project")

PI = Python("3.11", "aarch64", 36)


def facts(**changes: Any) -> dict[str, Any]:
    return {"python": "3.11.2", "arch": "aarch64", "libc": "glibc 2.36", **changes}


class TestPython:
    def test_of_a_probe(self) -> None:
        assert Python.of(facts()) == PI
        assert Python.of(facts(python="3.8.10", libc="glibc 2.31")) == Python("3.8", "aarch64", 31)
        assert Python.of(facts(python="3.14.0rc1+", libc="glibc 2.41.9000")) == Python("3.14", "aarch64", 41)

    @pytest.mark.parametrize("libc", [None, "", "musl 1.2.5", "bionic", "libc 2.36"])
    def test_a_libc_without_wheels(self, libc: str | None) -> None:
        with pytest.raises(DeviceError, match=f"the device's C library is {libc or 'unknown'}") as caught:
            Python.of(facts(libc=libc))
        assert caught.value.hint == "wheels are made for glibc only"

    def test_platforms_are_those_that_its_own_pip_would_take(self) -> None:
        assert PI.platforms() == [
            *(f"manylinux_2_{minor}_aarch64" for minor in range(36, 16, -1)),
            "manylinux2014_aarch64",
            "linux_aarch64",
        ]
        assert "manylinux_2_32_aarch64" not in Python("3.8", "aarch64", 31).platforms()

    def test_tags_tell_devices_apart(self) -> None:
        tags = {
            Python(version, arch, glibc).tag for version in ("3.1", "3.11") for arch in ("a", "b") for glibc in (1, 11)
        }
        assert len(tags) == 8


class TestRuntimeWheel:
    def test_it_is_the_code_that_runs_here(self) -> None:
        with zipfile.ZipFile(wheels.own("edgekit_runtime")) as wheel:
            package = Path(edgekit_runtime.__file__).parent
            for file in package.rglob("*.py"):
                assert wheel.read(str(file.relative_to(package.parent))) == file.read_bytes()
            assert not [name for name in wheel.namelist() if "__pycache__" in name]
            metadata = email.message_from_bytes(wheel.read(f"{info(wheel)}/METADATA"))
        assert (metadata["Name"], metadata["Version"]) == ("edgekit-runtime", edgekit_runtime.__version__)
        assert metadata["Requires-Python"] == ">=3.8"
        assert [line for line in metadata.get_all("Requires-Dist") or [] if "extra" not in line] == ["numpy"]

    def test_the_server_s_is_one_of_its_own(self) -> None:
        with zipfile.ZipFile(wheels.own("edgekit_server")) as wheel:
            package = Path(edgekit_server.__file__).parent
            sources = {str(file.relative_to(package.parent)) for file in package.rglob("*.py")}
            names = {name for name in wheel.namelist() if not name.startswith(info(wheel))}
            metadata = email.message_from_bytes(wheel.read(f"{info(wheel)}/METADATA"))
        assert names == {*sources, "edgekit_server/py.typed"}
        assert (metadata["Name"], metadata["Version"]) == ("edgekit-server", edgekit_runtime.__version__)
        assert metadata.get_all("Requires-Dist") == [
            "edgekit-runtime",
            *(f'{line} ; extra == "grpc"' for line in brought.GRPC),
        ]

    @pytest.mark.parametrize(
        ("package", "needs"),
        [
            ("edgekit_courier", ["edgekit-runtime", *(f'{line} ; extra == "mqtt"' for line in brought.MQTT)]),
            ("edgekit_postprocess", ["edgekit-runtime", "numpy"]),
            (
                "edgekit_train",
                ["edgekit-runtime", "numpy", 'flwr>=1.41 ; extra == "flower"', 'cryptography>=42 ; extra == "masks"'],
            ),
            ("edgekit_watch", ["edgekit-runtime", "numpy"]),
        ],
    )
    def test_so_are_those_beside_it(self, package: str, needs: list[str]) -> None:
        with zipfile.ZipFile(wheels.own(package)) as wheel:
            folder = Path(edgekit_runtime.__file__).parent.with_name(package)
            sources = {str(file.relative_to(folder.parent)) for file in folder.rglob("*.py")}
            names = {name for name in wheel.namelist() if not name.startswith(info(wheel))}
            metadata = email.message_from_bytes(wheel.read(f"{info(wheel)}/METADATA"))
        assert names == {*sources, f"{package}/py.typed"}
        assert (metadata["Name"], metadata["Version"]) == (package.replace("_", "-"), edgekit_runtime.__version__)
        assert metadata.get_all("Requires-Dist") == needs

    def test_it_is_the_same_bytes_each_time(self, project: Path) -> None:
        program = "from edgekit import wheels; print(wheels.digest(wheels.own('edgekit_runtime')))"
        made = {
            subprocess.check_output(
                [sys.executable, "-c", program], text=True, env={"XDG_CACHE_HOME": str(project / n)}
            )
            for n in ("one", "two")
        }
        assert made == {f"{wheels.digest(wheels.own('edgekit_runtime'))}\n"}

    def test_a_cache_that_cannot_be_written(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (project / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(project / "file"))
        with pytest.raises(EdgekitError, match="cannot be made") as caught:
            wheels.collect(PI, ())
        assert caught.value.hint == "look at XDG_CACHE_HOME"


def info(wheel: zipfile.ZipFile) -> str:
    return next(name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name)


class TestCollect:
    """Against an index of this test's own, without a network."""

    @pytest.fixture(autouse=True)
    def index(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = project / "index"
        folder.mkdir()
        for name in ("pip-25.0-py3-none-any", "numpy-2.1.0-cp311-cp311-manylinux_2_28_aarch64"):
            make_wheel(folder, name)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("XDG_CACHE_HOME", str(project / "cache"))
        return folder

    def test_pip_alone_where_the_device_has_an_index(self, project: Path) -> None:
        assert [file.name for file in wheels.collect(PI, ())] == ["pip-25.0-py3-none-any.whl"]

    @pytest.mark.slow
    def test_the_newest_that_fits_the_device(self, index: Path) -> None:
        for tag in ("cp311-cp311-manylinux_2_28_x86_64", "cp310-cp310-manylinux_2_28_aarch64"):
            make_wheel(index, f"engine-9.0-{tag}")
        for version, glibc in (("1.0", "2_17"), ("1.1", "2_36"), ("1.2", "2_37"), ("1.3", "2_40")):
            make_wheel(index, f"engine-{version}-cp311-cp311-manylinux_{glibc}_aarch64")
        make_wheel(index, "engine-0.9-py3-none-any")
        assert "engine-1.1-cp311-cp311-manylinux_2_36_aarch64.whl" in names(PI, "engine>=1")
        assert "engine-1.0-cp311-cp311-manylinux_2_17_aarch64.whl" in names(Python("3.11", "aarch64", 35), "engine>=1")
        assert "engine-0.9-py3-none-any.whl" in names(Python("3.11", "aarch64", 36), "engine<1")
        assert "numpy-2.1.0-cp311-cp311-manylinux_2_28_aarch64.whl" in names(PI, "engine")

    def test_none_that_fits(self, index: Path, project: Path) -> None:
        make_wheel(index, "engine-1.0-cp311-cp311-manylinux_2_40_aarch64")
        with pytest.raises(EdgekitError, match=r"no wheels for cp311-glibc2\.36-aarch64: ERROR: .*engine") as caught:
            wheels.collect(PI, ["engine>=1"])
        assert "\n" not in str(caught.value)
        assert list((project / "cache/edgekit/wheels").iterdir()) == []

    def test_what_was_fetched_once_needs_no_index(self, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make_wheel(index, "engine-1.0-py3-none-any")
        before = wheels.collect(PI, ["engine"])
        monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
        assert wheels.collect(PI, ["engine"]) == before
        with pytest.raises(EdgekitError):
            wheels.collect(PI, ["engine>=1"])

    def test_two_that_fetch_the_same(self, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The other one is done first; its wheels are taken."""
        download = wheels._download

        def overtaken(python: Python, wanted: Any, folder: Path) -> None:
            monkeypatch.setattr(wheels, "_download", download)
            wheels.collect(PI, ())
            download(python, wanted, folder)

        monkeypatch.setattr(wheels, "_download", overtaken)
        assert [file.name for file in wheels.collect(PI, ())] == ["pip-25.0-py3-none-any.whl"]

    def test_sources_are_never_built(self, index: Path) -> None:
        (index / "engine-1.0.tar.gz").write_bytes(b"")
        with pytest.raises(EdgekitError, match="no wheels for"):
            wheels.collect(PI, ["engine"])


def names(python: Python, requirement: str) -> list[str]:
    return [file.name for file in wheels.collect(python, [requirement])]


def make_wheel(folder: Path, name: str) -> None:
    """A wheel with metadata and nothing else."""
    distribution, version, *_ = name.split("-")
    metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    with zipfile.ZipFile(folder / f"{name}.whl", "w") as wheel:
        for file, text in (("METADATA", metadata), ("WHEEL", "Wheel-Version: 1.0\n"), ("RECORD", "")):
            wheel.writestr(f"{distribution}-{version}.dist-info/{file}", text)


BULLSEYE, BOOKWORM, TRIXIE = (Python(v, "aarch64", g) for v, g in (("3.9", 31), ("3.11", 36), ("3.13", 41)))
JETPACK5, JETPACK6 = Python("3.8", "aarch64", 31), Python("3.10", "aarch64", 35)
PLACES = [
    *((name, "litert", python) for name in ("raspberry-pi-5", "generic-aarch64") for python in (BOOKWORM, TRIXIE)),
    *((name, "onnxruntime", python) for name in ("raspberry-pi-5", "generic-aarch64") for python in (BOOKWORM, TRIXIE)),
    *((name, "litert", BULLSEYE) for name in ("raspberry-pi-4", "raspberry-pi-zero-2w")),
    ("raspberry-pi-4", "tflite", BULLSEYE),
    ("raspberry-pi-5", "tflite", BOOKWORM),
    ("generic-aarch64", "tflite", JETPACK5),
    ("jetson-orin", "onnxruntime", JETPACK6),
    ("jetson-xavier", "onnxruntime", JETPACK5),
    ("generic-x86-64", "onnxruntime", Python("3.9", "x86_64", 28)),
    ("generic-x86-64", "litert", Python("3.12", "x86_64", 39)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "engine", "python"), PLACES, ids=lambda value: getattr(value, "tag", value))
def test_the_public_index_has_what_a_target_asks_for(project: Path, name: str, engine: str, python: Python) -> None:
    """Every file fits the device by packaging's own tags, and everything that a file requires is there."""
    chosen = next(each for each in target.load(name).engines if each.name == engine)
    wanted = [f"{chosen.package}{chosen.version}", *wheels.COMPANIONS.get(chosen.package, ())]
    found = {parse_wheel_filename(file.name)[0]: file for file in wheels.collect(python, wanted)}
    version = {str(each): parse_wheel_filename(file.name)[1] for each, file in found.items()}
    assert version[chosen.package] in SpecifierSet(chosen.version)
    assert {"pip", "numpy"} <= version.keys()
    assert (version["numpy"].major < 2) or engine != "tflite"
    for file in found.values():
        assert fits(file, python), file.name
        assert python_allows(file, python), file.name
        for requirement in required(file, python):
            assert requirement.specifier.contains(version[canonicalize_name(requirement.name)]), requirement


@pytest.mark.slow
@pytest.mark.parametrize("python", [BULLSEYE, BOOKWORM, TRIXIE, JETPACK5, JETPACK6], ids=lambda value: value.tag)
def test_the_public_index_has_what_is_brought(project: Path, python: Python) -> None:
    found = wheels.collect(python, (*brought.GRPC, *brought.MQTT, *brought.MASKS))
    names = {parse_wheel_filename(file.name)[0] for file in found}
    assert names >= {"grpcio", "protobuf", "paho-mqtt", "cryptography", "cffi"}
    for file in found:
        assert fits(file, python), file.name


def fits(file: Path, python: Python) -> bool:
    """By the file's tags: an ABI of this Python or a stable one, and a platform that the device has."""
    minor = int(python.version.partition(".")[2])
    tags = parse_wheel_filename(file.name)[3]
    return any(_fits(tag, minor, python) for tag in tags)


def _fits(tag: Tag, minor: int, python: Python) -> bool:
    if tag.platform != "any" and tag.platform not in python.platforms():
        return False
    if tag.interpreter == f"cp3{minor}":
        return tag.abi in (f"cp3{minor}", "abi3", "none")
    older = re.fullmatch(r"cp3(\d+)", tag.interpreter)
    return tag.interpreter in ("py3", f"py3{minor}") or (
        older is not None and tag.abi == "abi3" and int(older[1]) <= minor
    )


def required(file: Path, python: Python) -> list[Requirement]:
    """What a wheel requires on the device, by its markers."""
    place = {"python_version": python.version, "python_full_version": f"{python.version}.10", "extra": ""}
    place |= {"platform_machine": python.arch, "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    with zipfile.ZipFile(file) as wheel:
        metadata = email.message_from_bytes(wheel.read(f"{info(wheel)}/METADATA"))
    lines = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]
    return [line for line in lines if line.marker is None or line.marker.evaluate(place)]


def python_allows(file: Path, python: Python) -> bool:
    with zipfile.ZipFile(file) as wheel:
        metadata = email.message_from_bytes(wheel.read(f"{info(wheel)}/METADATA"))
    return f"{python.version}.10" in SpecifierSet(metadata["Requires-Python"] or "")
