"""TensorRT's options and the folder that its engines stay in, as they are given; no TensorRT ever ran here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit_runtime.engines import EngineOptions, ort, tensorrt
from tests.runtime.bundles import Parcels, go_live

CACHE = Path("/var/lib/edgekit/compiled/m/k")
KEPT = {"trt_engine_cache_enable": "True", "trt_timing_cache_enable": "True", "trt_engine_cache_path": str(CACHE)}


@pytest.mark.parametrize(
    ("precision", "flags"),
    [
        ("int8", {"trt_int8_enable": "True"}),
        ("mixed", {"trt_int8_enable": "True"}),
        ("float16", {"trt_fp16_enable": "True"}),
        ("float32", {}),
    ],
)
def test_it_computes_in_what_the_model_was_judged_in(precision: str, flags: dict[str, str]) -> None:
    assert tensorrt.options(precision, None, "1.23.2") == flags
    assert tensorrt.options(precision, CACHE, "1.16.3") == {**flags, **KEPT}
    assert tensorrt.options(precision, CACHE, "1.17.0") == {**flags, **KEPT, "trt_timing_cache_path": str(CACHE)}


def machine(root: Path, l4t: str = "4.3", model: str = "NVIDIA Jetson Orin NX") -> Path:
    for name, text in {
        "etc/nv_tegra_release": f"# R36 (release), REVISION: {l4t}, GCID: 38968081, BOARD: generic, DATE: Wed Jan 8",
        "proc/device-tree/model": f"{model}\0",
        "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA A2\nIRQ:   \t\t 157\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_machine_is_told_by_l4t_board_and_card_and_by_nothing_that_changes_with_a_boot(tmp_path: Path) -> None:
    facts = tensorrt.machine(machine(tmp_path / "1"))
    assert [fact.strip("\0") for fact in facts] == [
        "R36 (release), REVISION: 4.3",
        "NVIDIA Jetson Orin NX",
        "Model: \t\t NVIDIA A2",
    ]
    assert tensorrt.machine(tmp_path / "none") == []
    others = [machine(tmp_path / "2", l4t="4.4"), machine(tmp_path / "3", model="NVIDIA Jetson Orin Nano")]
    keys = {tensorrt.key("1.23.2", "100300", *each) for each in (facts, *map(tensorrt.machine, others))}
    assert len({*keys, tensorrt.key("1.23.2", "100400", *facts), tensorrt.key("1.24", "100300", *facts)}) == 5


def test_what_was_built_by_another_version_goes(tmp_path: Path) -> None:
    root = tmp_path / "compiled" / "model"
    first = tensorrt.cache(root, "1.23.2")
    assert first
    (first / "graph_sm87.engine").write_bytes(b"x")
    assert tensorrt.cache(root, "1.23.2") == first
    assert (first / "graph_sm87.engine").exists()
    second = tensorrt.cache(root, "1.24.0")
    assert second != first
    assert list(root.iterdir()) == [second]


def test_where_nothing_can_be_kept_it_goes_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert tensorrt.cache(tmp_path / "file" / "model", "1.23.2") is None
    assert tensorrt.cache(None, "1.23.2") is None


def test_a_session_is_given_the_providers_in_order_with_their_options(tmp_path: Path) -> None:
    names = (tensorrt.NAME, "CUDAExecutionProvider", ort.CPU)
    options = EngineOptions(1, names, precision="int8", cache=tmp_path / "model")
    (first, known), *rest = ort._providers(options, list(reversed(names)), "1.23.2")
    assert (first, rest) == (tensorrt.NAME, ["CUDAExecutionProvider", ort.CPU])
    assert known["trt_int8_enable"] == "True"
    assert Path(known["trt_engine_cache_path"]).parent == tmp_path / "model"
    assert ort._providers(options, [ort.CPU], "1.23.2") == [ort.CPU]


def test_what_was_built_goes_with_the_last_release_that_has_the_model(home: Path, parcels: Parcels) -> None:
    from edgekit_runtime import collect, serving

    kept = serving.cache(home, go_live(parcels.one, home).bundle)
    gone = home / "compiled" / ("0" * 64)
    for folder in (kept, gone):
        (folder / "k").mkdir(parents=True)
    collect.collect(home)
    assert (kept.exists(), gone.exists()) == (True, False)
