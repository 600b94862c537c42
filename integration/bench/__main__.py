"""`python -m bench [--objects N] [--smoke] [names…]`: runs benchmarks and prints their tables."""

from __future__ import annotations

import argparse
import platform
import os
import shutil
import sys
import tempfile
from pathlib import Path

from skyflight_testing.settings import binary

from . import children, chunks, cone, ingest, latency, match, point, scan, shuffle, stream

BENCHMARKS = {
    "ingest": ingest.run,
    "cone": cone.run,
    "scan": scan.run,
    "stream": stream.run,
    "chunks": chunks.run,
    "match": match.run,
    "children": children.run,
    "point": point.run,
    "shuffle": shuffle.run,
    "latency": latency.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(BENCHMARKS)}; all without")
    parser.add_argument("--objects", type=int, default=10_000_000, help="objects of the synthetic survey")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: that the scripts run, not how fast")
    parser.add_argument("--folder", type=Path, help="where to work; kept, and a survey found there is used again")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    objects = 20_000 if arguments.smoke else arguments.objects
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="skyflight-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"# {binary()} on {platform.machine()} with {os.cpu_count()} processors; {objects:,} objects")
    try:
        for name in arguments.names or BENCHMARKS:
            # Flushed one by one: a long run that is stopped has shown what it had.
            BENCHMARKS[name](folder, objects, arguments.smoke).print()
            sys.stdout.flush()
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
