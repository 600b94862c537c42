"""Makes the programs of clients in other languages, in the build folder; what is made already is left alone."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from skyflight_testing.settings import PROJECT, binary

HERE = Path(__file__).resolve().parent


class Missing(Exception):
    """A toolchain is not on this machine; the text says which."""


def target() -> Path:
    """The build folder, as integration/run says it."""
    folder = Path(os.environ.get("SKYFLIGHT_BUILD") or os.environ.get("CARGO_TARGET_DIR") or PROJECT / "target")
    return folder.resolve()


def _digest(folder: Path) -> str:
    """Of all sources below a folder."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | (environment or {}), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=900, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")


def _made(source: Path, output: Path, make) -> None:
    """Calls `make` unless `output` was made of these very sources."""
    stamp, digest = output / "made-of", _digest(source)
    if stamp.is_file() and stamp.read_text() == digest:
        return
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    make()
    # Last, so that a build cut short is made again.
    stamp.write_text(digest)


def _need(*programs: str) -> None:
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        raise Missing(f"no {' and no '.join(absent)} on this machine")


@functools.cache
def jdbc() -> list[str]:
    """The command that starts the JDBC program. Raises `Missing` without Java and Maven."""
    _need("java", "javac", "mvn")
    source, output = HERE / "jdbc", target() / "clients-jdbc"

    def make() -> None:
        repository = f"-Dmaven.repo.local={target() / 'maven'}"
        goals = ["compiler:compile", "dependency:copy-dependencies"]
        _run(["mvn", "-B", "-q", repository, f"-Dskyflight.build={output}", *goals], source)

    _made(source, output, make)
    classes = f"{output / 'classes'}{os.pathsep}{output / 'dependency'}{os.sep}*"
    # The driver reads buffers by their addresses, which Java 17 gives to whom the command line names.
    return ["java", "--add-opens=java.base/java.nio=ALL-UNNAMED", "-Xmx512m", "-cp", classes, "skyflight.Main"]


@functools.cache
def go() -> list[str]:
    """The command that starts the Go program. Raises `Missing` without Go."""
    _need("go")
    source, output = HERE / "go", target() / "clients-go"
    program = output / "client"

    def make() -> None:
        # Read-only modules could not be removed with the build folder.
        _run(["go", "build", "-modcacherw", "-buildvcs=false", "-o", str(program), "."], source, {
            "GOMODCACHE": str(target() / "go-modules"), "GOCACHE": str(target() / "go-cache"), "GOFLAGS": "",
        })  # fmt: skip

    _made(source, output, make)
    return [str(program)]


@functools.cache
def rust() -> list[str]:
    """The command that starts the program of the Rust client, an example of its crate beside the binary."""
    program = binary().parent / "examples" / "spoken"
    if not program.is_file():
        raise Missing(f"no {program}; build it (cargo build -p skyflight-client --examples)")
    return [str(program)]
