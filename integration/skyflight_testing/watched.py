"""A server of one process with an HTTP port, and the figures it tells there."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from pathlib import Path

from .cluster import Cluster


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Watched(Cluster):
    """Two workers and their coordinator in one process; `coordinator` and `operations` are further lines of their sections."""

    def __init__(self, folder: Path, coordinator: str = "", operations: str = "") -> None:
        self.http = f"http://127.0.0.1:{free_port()}"
        port = self.http.rsplit(":", 1)[1]
        config = f'[coordinator]\n{coordinator}\n\n[operations]\nhttp_listen = "{port}"\n{operations}\n'
        super().__init__(folder, workers=2, config=config, one_process=True)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.http + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def figure(self, name: str, **labels: str) -> float:
        """The value of one sample; 0 where it is not there yet."""
        wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
        pattern = rf"^{name}{re.escape('{' + wanted + '}') if wanted else ''} (\S+)$"
        found = re.search(pattern, self.get("/metrics")[1], re.MULTILINE)
        return float(found.group(1)) if found else 0.0
