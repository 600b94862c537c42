"""The synthetic survey all benchmarks share, and the cluster that holds it."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from skyflight_testing.cluster import Cluster
from skyflight_testing.process import memory_bytes
from skyflight_testing.settings import binary
from skyflight_testing.tables import Scheme


@dataclass(frozen=True)
class Measured:
    """A command that ended well: how long it took and what it used."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def measured(command: list[str], log: Path) -> Measured:
    """Runs a command to its end; its peak memory is its own, children of children not included."""
    started = time.monotonic()
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        # Read while it runs: the kernel's ru_maxrss of a child starts at its parent's own peak.
        peak_bytes = 0
        while not os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            peak_bytes = max(peak_bytes, memory_bytes(child.pid, "VmHWM"))
            time.sleep(0.02)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    text = log.read_text(errors="replace")
    if child.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:3])} ended with {child.returncode}\n{text[-4000:]}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, peak_bytes, text)


class Survey:
    """Files of a synthetic survey, made once in a folder."""

    def __init__(self, folder: Path, objects: int, sources: int = 0) -> None:
        self.folder = folder / f"survey-{objects}-{sources}"
        self.objects = objects
        if not (self.folder / "Object.toml").exists():
            numbers = ["--objects", str(objects), "--sources", str(sources), "--forced", "0", "--seed", "1"]
            command = [str(binary()), "generate", *numbers, "--output", str(self.folder)]
            made = measured(command, folder / "generate.log")
            print(f"made {objects:,} objects in {made.seconds:.1f} s, at most {made.peak_bytes / 2**20:,.0f} MiB")

    def input_files(self, table: str = "Object") -> list[Path]:
        return sorted((self.folder / table).glob("*.parquet"))

    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.folder.rglob("*.parquet"))

    def ingest(self, cluster: Cluster, database: str, scheme: Scheme, replicas: int = 1) -> Measured:
        """Loads the survey; the description of Object gets the scheme."""
        cut = cluster.folder / f"{database}-descriptions"
        cut.mkdir()
        sources = []
        for description in sorted(self.folder.glob("*.toml")):
            text = description.read_text()
            if description.stem == "Object":
                text += f"\n[scheme]\n{scheme.toml}"
            (cut / description.name).write_text(text)
            sources.append(f"{cut / description.name}={self.folder / description.stem}")
        command = [
            *[str(binary()), "ingest", "--data-dir", str(cluster.data), "--database", database],
            *["--replicas", str(replicas), *sources],
        ]
        return measured(command, cluster.folder / f"ingest-{database}.log")


def chunk_files(cluster: Cluster, database: str, table: str = "Object") -> list[Path]:
    """The files with a table's rows, each once: what the peers read."""
    found: dict[str, Path] = {}
    for name in cluster.workers:
        for file in (cluster.worker_folder(name) / "chunks" / database / table).rglob("*.parquet"):
            if not file.name.endswith(".overlap.parquet"):
                found[file.name] = file
    return [found[name] for name in sorted(found)]
