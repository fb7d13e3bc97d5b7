"""Runs the benchmarks of all three languages in one go and shows one table.

Every figure stands beside a peer that was measured in the same run; absolute times are printed with the machine and are
not to be compared across runs. The raw figures go to benches/results/last.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"

PROGRAMS = {
    "core": ["cargo", "run", "--release", "--quiet", "--locked", "--package", "zmsg-benches", "--"],
    "python": [sys.executable, str(HERE / "python" / "hits.py")],
    "node": ["node", "--expose-gc", str(HERE / "node" / "hits.mjs")],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", choices=[*PROGRAMS, []], help="which to run (default: all)")
    given = parser.parse_args()
    for name in ("ZMSG_POSTGRES_DSN", "ZMSG_REDIS_ADDR"):
        if not os.environ.get(name):
            parser.error(f'{name} is not set; run "make bench", which starts the servers')
    RESULTS.mkdir(exist_ok=True)
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    machine = {"cpu": cpu, "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    with (RESULTS / "last.jsonl").open("w") as last:
        last.write(json.dumps({"machine": machine}) + "\n")
        for name in given.programs or PROGRAMS:
            print(f"\n== {name} ({cpu}, {os.cpu_count()} cores)", flush=True)
            part = RESULTS / f"{name}.jsonl"
            subprocess.run([*PROGRAMS[name], str(part)], cwd=ROOT, check=True)
            for line in part.read_text().splitlines():
                last.write(json.dumps({"program": name, **json.loads(line)}) + "\n")
            part.unlink()


if __name__ == "__main__":
    main()
