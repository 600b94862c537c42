"""Clients in other languages: a program reads requests, a JSON object a line, and answers each with one.

A request has `do` and `session`; `{"error": {"exception", "code", "message"}}` is the answer to one that failed.
"""

from __future__ import annotations

import atexit
import itertools
import json
import subprocess
import tempfile
from typing import Any

from .client import Answer, ClientFailed


class Program:
    """A running program with any number of sessions in it; ended with the tests, by its own id."""

    def __init__(self, command: list[str]) -> None:
        self.log = tempfile.TemporaryFile()
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self.sessions = itertools.count(1)
        atexit.register(self.end)

    def ask(self, session: int, do: str, **request: Any) -> dict[str, Any]:
        """Raises `ClientFailed` where the client did."""
        assert self.child.stdin and self.child.stdout
        line = json.dumps({"session": session, "do": do, **request})
        self.child.stdin.write(line.encode() + b"\n")
        self.child.stdin.flush()
        answered = self.child.stdout.readline()
        if not answered:
            self.log.seek(0)
            raise RuntimeError(f"the client's program ended: {self.log.read().decode(errors='replace')[-4000:]}")
        answer = json.loads(answered)
        if error := answer.get("error"):
            raise ClientFailed(error["exception"], error["code"], error["message"])
        return answer

    def end(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait(30)


def answer_in(answer: dict[str, Any]) -> Answer:
    return Answer(answer["columns"], [tuple(row) for row in answer["rows"]])
