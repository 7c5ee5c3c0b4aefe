"""What machines tell of themselves, from folders that hold the files of real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit import target
from edgekit.lab import board
from edgekit_watch import holding_back, sensors
from edgekit_watch.sensors import Sensors

THERMAL, CPU, HWMON = "sys/class/thermal", "sys/devices/system/cpu", "sys/class/hwmon"
THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
MEMORY = {"proc/meminfo": "MemTotal:        3884376 kB\nMemFree:          190000 kB\nMemAvailable:    3145728 kB\n"}


def policy(number: int, now: int, limit: int, most: int) -> dict[str, str]:
    place = f"{CPU}/cpufreq/policy{number}"
    return {
        f"{place}/scaling_cur_freq": f"{now}\n",
        f"{place}/scaling_max_freq": f"{limit}\n",
        f"{place}/cpuinfo_max_freq": f"{most}\n",
    }


def zones(**celsius: float) -> dict[str, str]:
    files = {}
    for at, (kind, value) in enumerate(celsius.items()):
        files[f"{THERMAL}/thermal_zone{at}/type"] = f"{kind.replace('_', '-')}\n"
        files[f"{THERMAL}/thermal_zone{at}/temp"] = f"{int(value * 1000)}\n"
    return files


def monitor(at: int, name: str, **files: object) -> dict[str, str]:
    place = f"{HWMON}/hwmon{at}"
    return {f"{place}/name": f"{name}\n", **{f"{place}/{file}": f"{text}\n" for file, text in files.items()}}


PI_4 = {
    **MEMORY,
    **zones(cpu_thermal=58.4),
    **policy(0, 1500000, 1500000, 1500000),
    THROTTLED: "0\n",
    f"{THERMAL}/cooling_device0/type": "rpi-poe-fan\n",
    f"{THERMAL}/cooling_device0/cur_state": "3\n",
}
ORIN_NANO = {
    **MEMORY,
    **zones(cpu_thermal=51.2, gpu_thermal=53.9, cv0_thermal=999, soc0_thermal=50.0, tj_thermal=54.1, PMIC_Die=100),
    **policy(0, 1113600, 1510400, 1510400),
    **policy(4, 729600, 1510400, 1510400),
    **monitor(
        1, "ina3221", in1_label="VDD_IN", in1_input=4984, curr1_input=1856,
        in2_label="VDD_CPU_GPU_CV", in2_input=4976, curr2_input=600,
        in3_label="VDD_SOC", in3_input=4976, curr3_input=300,
        in4_input=12, in7_label="sum of shunt voltages", in7_input=40,
    ),
    **monitor(3, "soctherm_oc", oc1_event_cnt=0, oc2_event_cnt=15, oc3_event_cnt=37, oc3_throt_en=1),
    f"{THERMAL}/cooling_device0/type": "pwm-fan\n",
    f"{THERMAL}/cooling_device0/cur_state": "2\n",
    f"{THERMAL}/cooling_device1/type": "cpu-throttle-alert\n",
    f"{THERMAL}/cooling_device1/cur_state": "0\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "624750000\n",
    "sys/class/devfreq/13e40000.host1x/cur_freq": "115200000\n",
    "sys/class/devfreq/13e40000.host1x/max_freq": "115200000\n",
}  # fmt: skip
AGX_ORIN = {
    **monitor(
        3, "ina3221", in1_label="VDD_GPU_SOC", in1_input=19000, curr1_input=200,
        in2_label="VDD_CPU_CV", in2_input=19000, curr2_input=100,
        in3_label="VIN_SYS_5V0", in3_input=5000, curr3_input=1000,
    ),
    **monitor(4, "ina3221", in2_label="VDDQ_VDD2_1V8AO", in2_input=1800, curr2_input=500),
}  # fmt: skip
NANO = {
    **zones(AO_therm=60.0, CPU_therm=41.5, GPU_therm=40.0, PMIC_Die=100, thermal_fan_est=41.0),
    **{
        f"sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/{file}": f"{text}\n"
        for file, text in {
            "rail_name_0": "POM_5V_IN", "in_power0_input": 2450,
            "rail_name_1": "POM_5V_GPU", "in_power1_input": 40,
            "rail_name_2": "POM_5V_CPU", "in_power2_input": 400,
        }.items()
    },
}  # fmt: skip
PC = {
    **MEMORY,
    **zones(acpitz=27.8, x86_pkg_temp=64.0, iwlwifi_1=80.0),
    **policy(0, 800000, 4200000, 4700000),
    **policy(1, 3100000, 4200000, 4700000),
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "7\n",
    f"{CPU}/cpu0/thermal_throttle/package_throttle_count": "9\n",
    **monitor(0, "acpitz", temp1_input=27800),
    **monitor(1, "amdgpu", power1_input=9000000),
}


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "told"),
    [
        pytest.param(
            PI_4,
            {
                "temperature_c": 58.4, "frequency_mhz": 1500, "frequency_max_mhz": 1500, "memory_available_mib": 3072,
                "throttled": 0, "under_voltage": 0, "frequency_capped": 0, "soft_temperature_limit": 0,
            },
            id="Raspberry Pi 4",
        ),
        pytest.param(
            ORIN_NANO,
            {
                "temperature_c": 54.1, "frequency_mhz": 1113.6, "frequency_max_mhz": 1510.4,
                "gpu_frequency_mhz": 306, "gpu_frequency_max_mhz": 624.75, "power_w": 4.984 * 1.856,
                "memory_available_mib": 3072, "throttled": 0, "under_voltage": 0, "frequency_capped": 0,
            },
            id="Jetson Orin Nano",
        ),
        pytest.param(AGX_ORIN, {"power_w": 3.8 + 1.9 + 5.0 + 0.9}, id="Jetson AGX Orin"),
        pytest.param(NANO, {"temperature_c": 41.5, "power_w": 2.45}, id="Jetson Nano, Jetson Linux 32"),
        pytest.param(
            PC,
            {
                "temperature_c": 64, "frequency_mhz": 3100, "frequency_max_mhz": 4700, "memory_available_mib": 3072,
                "throttled": 0, "frequency_capped": 1,
            },
            id="a PC that is set to less",
        ),
        pytest.param({}, {}, id="nothing"),
    ],
)  # fmt: skip
def test_what_a_machine_tells(tmp_path: Path, files: dict[str, str], told: dict[str, float]) -> None:
    assert sensors.read(machine(tmp_path, files)) == pytest.approx(told)


@pytest.mark.parametrize("name", ["raspberry-pi-4", "raspberry-pi-5", "jetson-orin"])
def test_a_simulated_board_is_read_as_a_real_one(tmp_path: Path, name: str) -> None:
    shown = board.of(target.load(name))
    board.show(shown, tmp_path)
    told = sensors.read(tmp_path)
    assert (told["temperature_c"], told["memory_available_mib"]) == (45, shown.memory_mib - board.SYSTEM_MIB)
    if "raspberry" in name:
        (tmp_path / board.TEMPERATURE).write_text("81000\n")
        (tmp_path / board.THROTTLED).write_text("e0008\n")
        told = sensors.read(tmp_path)
        assert (told["temperature_c"], told["throttled"], told["soft_temperature_limit"]) == (81, 0, 1)


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        ("0", []),
        ("1", ["under_voltage"]),
        ("50005", ["throttled", "under_voltage"]),
        ("2", ["frequency_capped"]),
        ("80008", ["soft_temperature_limit"]),
        ("f0000", []),  # since the board was started, not now
        ("0xf000f", ["frequency_capped", "soft_temperature_limit", "throttled", "under_voltage"]),
    ],
)
def test_the_bits_of_a_pi(tmp_path: Path, bits: str, names: list[str]) -> None:
    told = sensors.read(machine(tmp_path, {**PI_4, THROTTLED: f"{bits}\n"}))
    assert sorted(name for name, value in told.items() if value == 1) == names


class TestSinceTheLastTime:
    def test_what_was_between_two_looks_at_a_pi_is_told_once(self, tmp_path: Path) -> None:
        looks = Sensors(machine(tmp_path, {**PI_4, THROTTLED: "20000\n"}))
        assert looks.read()["frequency_capped"] == 0  # before anybody looked
        (tmp_path / THROTTLED).write_text("70000\n")
        told = looks.read()
        assert (told["under_voltage"], told["throttled"], told["frequency_capped"]) == (1, 1, 0)
        assert looks.read()["under_voltage"] == 0
        (tmp_path / THROTTLED).write_text("70005\n")
        assert looks.read()["under_voltage"] == looks.read()["under_voltage"] == 1  # it goes on

    def test_events_of_a_jetson(self, tmp_path: Path) -> None:
        looks = Sensors(machine(tmp_path, ORIN_NANO))
        (tmp_path / HWMON / "hwmon3/oc3_event_cnt").write_text("38\n")
        told = looks.read()
        assert (told["throttled"], told["under_voltage"]) == (1, 0)
        (tmp_path / HWMON / "hwmon3/oc1_event_cnt").write_text("2\n")
        told = looks.read()
        assert (told["throttled"], told["under_voltage"]) == (0, 1)

    def test_a_kernel_that_cools_by_slowing_down(self, tmp_path: Path) -> None:
        looks = Sensors(machine(tmp_path, ORIN_NANO))
        (tmp_path / THERMAL / "cooling_device1/cur_state").write_text("1\n")
        assert looks.read()["throttled"] == 1

    def test_counters_of_a_pc(self, tmp_path: Path) -> None:
        looks = Sensors(machine(tmp_path, PC))
        (tmp_path / CPU / "cpu0/thermal_throttle/core_throttle_count").write_text("8\n")
        assert [looks.read()["throttled"] for _ in range(2)] == [1, 0]


class TestProgramOfAPi:
    """Where the kernel has no file for it."""

    def says(self, root: Path, script: str) -> Path:
        program = root / "usr/bin/vcgencmd"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return root

    def test_it_is_asked(self, tmp_path: Path) -> None:
        told = sensors.read(self.says(tmp_path, '[ "$1" = get_throttled ] && echo throttled=0x50005'))
        assert told == {"under_voltage": 1, "frequency_capped": 0, "throttled": 1, "soft_temperature_limit": 0}

    @pytest.mark.parametrize("script", ["echo VCHI initialization failed; exit 255", "exit 1", "printf '=\\377'"])
    def test_one_that_cannot_tell(self, tmp_path: Path, script: str) -> None:
        root = machine(self.says(tmp_path, script), monitor(2, "rpi_volt", in0_lcrit_alarm=1))
        assert sensors.read(root) == {"under_voltage": 1}

    def test_one_that_hangs_is_not_waited_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(holding_back, "ASKED_S", 0.05)
        assert sensors.read(self.says(tmp_path, "exec sleep 5")) == {}


@pytest.mark.parametrize(
    "text",
    ["", "garbage", "\0", "1.5", "-1", "9" * 23, "9" * 500, "MemAvailable: " + "9" * 400 + " kB", "0x", "é" * 5000],
)
def test_files_that_say_something_else_raise_nothing(tmp_path: Path, text: str) -> None:
    for files in (PI_4, ORIN_NANO, NANO, PC):
        told = sensors.read(machine(tmp_path, dict.fromkeys(files, text)))
        assert all(-1e9 < value < 1e12 for value in told.values())


def test_files_that_are_folders_or_lead_nowhere(tmp_path: Path) -> None:
    for name in {**PI_4, **ORIN_NANO, **PC}:
        (tmp_path / name).mkdir(parents=True)
    assert sensors.read(tmp_path) == {}
    (tmp_path / "sys/class/thermal/thermal_zone99").symlink_to("/nowhere")
    assert sensors.read(tmp_path) == {}
