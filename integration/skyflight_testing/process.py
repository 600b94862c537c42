"""One `skyflight` process: started, awaited, measured, ended by its own id."""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from .settings import binary

READY = re.compile(r"listening on (https?://\S+)")

_running: set["Process"] = set()


class Process:
    """A server process whose output goes to files, ready when it has said where it listens."""

    def __init__(self, name: str, arguments: list[str], folder: Path, ready_within_s: float = 60) -> None:
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        stamp = f"{name}-{time.monotonic_ns()}"
        self.stdout = folder / f"{stamp}.out"
        self.stderr = folder / f"{stamp}.err"
        environment = {"RUST_BACKTRACE": "1", "SKYFLIGHT_LOG": "info", "NO_COLOR": "1"} | dict(os.environ)
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.child = subprocess.Popen(
                [str(binary()), *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment
            )
        _running.add(self)
        self.url = self._await_ready(ready_within_s)

    def _await_ready(self, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = READY.search(self.stdout.read_text(errors="replace"))
            if found:
                return found.group(1)
            if self.child.poll() is not None:
                break
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"{self.name} did not start (code {self.child.returncode})\n{self.log_tail()}")

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].strip("/"))

    def alive(self) -> bool:
        return self.child.poll() is None

    def kill(self) -> None:
        """kill -9, and wait until the process is gone."""
        if self.alive():
            self.child.kill()
        self.child.wait(30)
        _running.discard(self)

    def stop(self, within_s: float = 30) -> int:
        """SIGTERM as an operator would; the exit code. A process that stays is killed and reported."""
        if self.alive():
            self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.name} did not stop within {within_s} s of SIGTERM") from None
        finally:
            _running.discard(self)

    def log_tail(self, lines: int = 60) -> str:
        """The last lines it printed."""
        text = self.stderr.read_text(errors="replace") + self.stdout.read_text(errors="replace")
        tail = "\n".join(text.splitlines()[-lines:])
        return f"--- {self.name} (pid {self.pid}, code {self.child.returncode}) ---\n{tail}"

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self, what: str = "VmRSS") -> int:
        """Resident memory now (`VmRSS`) or at its highest (`VmHWM`)."""
        found = memory_bytes(self.pid, what)
        if not found:
            raise RuntimeError(f"{self.name} has no {what}; is it gone?")
        return found


def memory_bytes(pid: int, what: str) -> int:
    """`VmRSS`, `VmHWM` or the like of a process; 0 once it has ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _end_all() -> None:
    for process in list(_running):
        process.kill()


# A test run that dies must not leave servers behind.
atexit.register(_end_all)
