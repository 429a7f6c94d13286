"""`python -m lab.bench`: measure speed as a ratio to the limit of this machine, measured in the same run."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.bench.agent import bench_agent
from lab.bench.crowded import bench_crowded
from lab.bench.dataplane import bench_drift, bench_failover
from lab.bench.latency import bench_latency
from lab.bench.link_failure import bench_link_failure
from lab.bench.measure import Options, Row
from lab.bench.nodes import bench_nodes
from lab.bench.phpipam import bench_phpipam
from lab.bench.routes import bench_routes
from lab.bench.scale import bench_scale
from lab.bench.stalls import bench_stalls
from lab.build.assets import BuildFailed, find_assets
from lab.build.go_build import print_progress
from lab.net.private import EXIT_USAGE, MissingRequirement, enter, is_private

WITH_OPTIONS: dict[str, Callable[[Path, Options], list[Row]]] = {
    "nodes": bench_nodes,
    "scale": bench_scale,
    "latency": bench_latency,
    "crowded": bench_crowded,
}

FIXED: dict[str, Callable[[Path], list[Row]]] = {
    "phpipam": bench_phpipam,
    "routes": bench_routes,
    "failover": bench_failover,
    "link-failure": bench_link_failure,
    "drift": bench_drift,
    "stalls": bench_stalls,
    "agent": bench_agent,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument("which", nargs="*", metavar="|".join([*WITH_OPTIONS, *FIXED]), help="default: all")
    parser.add_argument("--nodes", type=int, help=f"number of nodes, for {', '.join(WITH_OPTIONS)}")
    parser.add_argument("--routes", type=int, help=f"number of StaticRoutes, for {', '.join(WITH_OPTIONS)}")
    parser.add_argument("--against", type=Path, help="checkout of another version, for latency")
    arguments = parser.parse_args()
    chosen = arguments.which or [*WITH_OPTIONS, *FIXED]
    unknown = [name for name in chosen if name not in WITH_OPTIONS and name not in FIXED]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; choose from {', '.join([*WITH_OPTIONS, *FIXED])}")
    options = Options(arguments.nodes, arguments.routes, arguments.against and arguments.against.absolute())
    try:
        if not is_private():
            find_assets(print_progress)
            return enter([sys.executable, "-m", "lab.bench", *sys.argv[1:]])
    except (MissingRequirement, BuildFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_USAGE
    table = Table("benchmark", "what", "measured", "ratio to the limit", box=None)
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="overlay-net-") as folder:
            rows = WITH_OPTIONS[name](Path(folder), options) if name in WITH_OPTIONS else FIXED[name](Path(folder))
            for row in rows:
                table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
