"""How fast each service starts, and how much memory it holds when idle."""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path

from trunkline_cli.suite.processes import Suite

from tools.bench import Target, report

FOLDER = Path("build/bench/start")
SERVICES = ("tenant", "audio", "ai", "gateway")
RUNS = 3
TARGETS = {
    **{f"{name}_start_s": Target("<", 1.5) for name in SERVICES},
    "gateway_rss_mb": Target("<", 120),
}


def memory_mb(pid: int) -> float:
    """Resident memory of a process and its children, in MiB; shared pages are counted in each."""
    total = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            group = int((status.parent / "stat").read_text().rpartition(")")[2].split()[2])
        except (OSError, ValueError):
            continue  # it ended meanwhile
        if group == pid and "VmRSS" in fields:
            total += int(fields["VmRSS"].split()[0]) / 1024
    return total


def main() -> None:
    """Start each service alone, several times; on a fresh store the first time."""
    figures: dict[str, float] = {}
    for name in SERVICES:
        times = []
        for _ in range(RUNS):
            shutil.rmtree(FOLDER, ignore_errors=True)
            suite = Suite(FOLDER, free_ports=True)
            begun = time.perf_counter()
            process = suite.spawn(name)
            suite.wait_ready(name)
            times.append(time.perf_counter() - begun)
            time.sleep(1.5)  # engines warm behind the open port: idle is what stays
            memory = memory_mb(process.pid)
            suite.stop()
        figures[f"{name}_start_s"] = statistics.median(times)
        figures[f"{name}_rss_mb"] = memory
    report("start", figures, TARGETS)


if __name__ == "__main__":
    main()
