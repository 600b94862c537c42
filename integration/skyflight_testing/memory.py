"""Resident memory of a cluster's processes, sampled while something runs."""

from __future__ import annotations

import threading
from typing import Self

from .cluster import Cluster


class MemorySamples:
    """Bytes of each process by its name, twenty times a second."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self.samples: dict[str, list[int]] = {process.name: [] for process in cluster.processes()}
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._stop.wait(0.05):
            for process in self._cluster.processes():
                self.samples[process.name].append(process.memory_bytes())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
