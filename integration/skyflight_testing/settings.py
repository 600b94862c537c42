"""Where the binary and the real catalogs are, and how much is to be tested."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

#: Everything at full size. Without it slow tests run a part, deterministic by seed.
FULL = os.environ.get("SKYFLIGHT_FULL", "") not in ("", "0")

#: Deadlines are written for a release build; a debug build gets this many times as long.
SLOWNESS = float(os.environ.get("SKYFLIGHT_SLOWNESS", "3"))

#: One seed for all random choices; every test derives its own from it and prints it.
SEED = int(os.environ.get("SKYFLIGHT_SEED", "20240607"))


def binary() -> Path:
    """The `skyflight` under test."""
    given = os.environ.get("SKYFLIGHT_BIN")
    path = Path(given) if given else Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target")) / "debug/skyflight"
    if not path.is_file():
        raise FileNotFoundError(f"no binary at {path}; build it (cargo build --workspace) or set SKYFLIGHT_BIN")
    return path.resolve()


def data_folder() -> Path | None:
    """The folder with real catalogs, if there is one."""
    folder = Path(os.environ.get("SKYFLIGHT_TEST_DATA", PROJECT.parent / "shared/data"))
    return folder.resolve() if folder.is_dir() else None
