"""Tables for people."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """Rows of: what, ours, what it is compared with, that, the ratio (ours in terms of the other, above 1 is better)."""

    title: str
    notes: list[str] = field(default_factory=list)
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, what: str, ours: str, peer: str = "", theirs: str = "", ratio: float | None = None, aim: str = "") -> None:
        self.rows.append((what, ours, peer, theirs, "" if ratio is None else f"{ratio:.2f}", aim))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def print(self) -> None:
        head = ("what", "Skyflight", "beside", "that", "ratio", "aim")
        widths = [max(len(row[i]) for row in [head, *self.rows]) for i in range(len(head))]
        print(f"\n## {self.title}\n")
        for row in [head, tuple("-" * width for width in widths), *self.rows]:
            print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        for note in self.notes:
            print(f"- {note}")


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def mebibytes(count: float) -> str:
    return f"{count / 2**20:,.0f} MiB"
