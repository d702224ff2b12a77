import json
from pathlib import Path

import pytest

from rexnet_export.apps.bench.runner import machine

ARM = """processor\t: 0
Features\t: fp asimd asimddp
CPU implementer\t: 0x41
CPU variant\t: 0x3
CPU part\t: 0xd0b

processor\t: 1
CPU implementer\t: 0x41
CPU variant\t: 0x3
CPU part\t: 0xd0b

processor\t: 2
CPU implementer\t: 0x41
CPU variant\t: 0x1
CPU part\t: 0xd05

Hardware\t: BCM2712
Serial\t\t: 10000000abcdef
"""


@pytest.fixture
def board(tmp_path: Path) -> Path:
    contents = {
        "proc/cpuinfo": ARM,
        "proc/meminfo": "MemTotal:        8000000 kB\nMemAvailable:    5000000 kB\n",
        "proc/self/status": "VmRSS:\t  2048 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\n",
        "proc/self/comm": "python3\n",
        "proc/device-tree/model": "Raspberry Pi 5\0",
        "proc/device-tree/serial-number": "10000000abcdef\0",
        "sys/class/thermal/thermal_zone0/temp": "48250\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "2400000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu0/cpufreq/stats/time_in_state": "1500000 90\n2400000 10\n",
        "sys/class/power_supply/battery/capacity": "81\n",
        "sys/class/power_supply/battery/temp": "291\n",
        "sys/class/power_supply/battery/status": "Discharging\n",
    }
    for name, text in contents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_facts_of_a_board_without_its_serial_number(board: Path) -> None:
    facts = machine.identify(None, board)
    assert facts["model"] == "Raspberry Pi 5"
    assert facts["kind"] == "linux"
    assert facts["emulator"] is None
    assert [(part["part"], part["count"], part["max_freq_khz"]) for part in facts["cpu_parts"]] == [
        ("0xd0b", 1, 2400000),
        ("0xd0b", 1, None),
        ("0xd05", 1, None),
    ]
    assert facts["ram_bytes"] == 8000000 * 1024
    assert facts["serial_hash"] is None
    assert "10000000abcdef" not in json.dumps(facts)


def test_fingerprint_is_of_the_device_alone(board: Path) -> None:
    first = machine.identify(None, board)["fingerprint"]
    (board / "proc/meminfo").write_text("MemTotal:        8000004 kB\n")
    assert machine.identify(None, board)["fingerprint"] == first
    (board / "proc/device-tree/model").write_text("Raspberry Pi 4\0")
    assert machine.identify(None, board)["fingerprint"] != first


def test_state_and_its_changes(board: Path) -> None:
    before = machine.environment(board)
    assert before["temps_c"] == [48.25]
    assert before["governor"] == ["ondemand"]
    assert (before["battery_pct"], before["battery_temp_c"], before["charging"]) == (81, 29.1, False)
    (board / "sys/devices/system/cpu/cpu0/cpufreq/stats/time_in_state").write_text("1500000 95\n2400000 40\n")
    delta = machine.changes(before, machine.environment(board))
    assert delta["time_in_state_delta"] == {"cpu0": {"1500000": 5, "2400000": 30}}
    assert delta["voluntary_ctxt_switches"] == 0
    assert delta["throttle_events"] is None
    assert machine.resident_bytes(board) == 2048 * 1024


def test_an_emulator_shows_itself(board: Path) -> None:
    (board / "proc/self/comm").write_text("qemu-aarch64-st\n")
    facts = machine.identify(None, board)
    assert facts["kind"] == "emulated"
    assert facts["emulator"] == "qemu-user"
    assert facts["cpu_parts"] == []
    assert machine.identify("qemu-user 7.2 -cpu max", board)["emulator"] == "qemu-user 7.2 -cpu max"
