"""The benchmark scripts run. What they print is not judged: figures are for people, and never timed tests."""

from __future__ import annotations

import subprocess
import sys

from bench.__main__ import BENCHMARKS
from skyflight_testing.settings import PROJECT


def test_all_benchmarks_smoke() -> None:
    command = [sys.executable, "-m", "bench", "--smoke"]
    folder = PROJECT / "integration"
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("\n## ") == len(BENCHMARKS)
