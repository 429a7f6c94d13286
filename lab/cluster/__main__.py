"""`python -m lab.cluster`: a cluster of real kubelets on this machine, for people; Ctrl-C tears it down."""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from lab.build.assets import BuildFailed
from lab.build.debian import PackageUnavailable
from lab.build.image import find_image
from lab.cluster.cluster import Cluster
from lab.cluster.programs import find_cluster_programs
from lab.cluster.release import Release
from lab.cluster.requirements import missing
from lab.net import vlan
from lab.net.enter import write_script
from lab.net.private import EXIT_USAGE, enter, is_private
from lab.net.traffic import serve
from lab.processes import CommandFailed, ConditionTimeout, stop_requested

BEGAN = time.monotonic()


def tell(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", file=sys.stderr, flush=True)


def stay(cluster: Cluster, directory: Path) -> None:
    """Say how to get in, and wait for Ctrl-C."""
    script = directory / "enter"
    machines = {name: node.machine for name, node in cluster.nodes.items()}
    others = {"gateway": cluster.vlan.gateway, "on-premise": cluster.vlan.on_premise}
    write_script(
        script,
        {**machines, **others},
        cluster.control_plane.admin(),
        cluster.programs.assets.kubectl.parent,
        commands={},
    )
    asked = stop_requested()
    print(f"export KUBECONFIG={cluster.control_plane.admin()}")
    print(f"{script}                     # a shell where the API server is reached")
    print(f"{script} kubectl get nodes")
    for name in (*machines, *others):
        print(f"{script} {name} ip route")
    print(f"ls {directory}/*/*.log {directory}/nodes/*/*.log", flush=True)
    tell("up until Ctrl-C")
    asked.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.cluster", description=__doc__)
    parser.add_argument("--nodes", type=int, choices=range(1, 10), default=3, help="how many (default: %(default)s)")
    parser.add_argument("--install", action="store_true", help="install the chart, with a route to the on-premise host")
    arguments = parser.parse_args()
    try:
        if not is_private():
            if lacking := missing():
                print(f"cluster: {lacking}", file=sys.stderr)
                return EXIT_USAGE
            # Builds need the network, which the private namespaces have not.
            find_cluster_programs(tell)
            find_image(tell)
            return enter([sys.executable, "-m", "lab.cluster", *sys.argv[1:]])
        programs, image = find_cluster_programs(), find_image()
    except (BuildFailed, PackageUnavailable) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return EXIT_USAGE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    first = int(vlan.NODE_NAMES[0].rpartition(".")[2])
    names = [f"10.176.162.{first + number}" for number in range(arguments.nodes)]
    with (
        tempfile.TemporaryDirectory(prefix="overlay-net-") as folder,
        Cluster(Path(folder), programs, [image.archive], tell) as cluster,
    ):
        try:
            cluster.start(names)
            tell("all nodes are Ready")
            with serve(cluster.vlan.on_premise, Path(folder) / "traffic.log"):
                if arguments.install:
                    release = Release(cluster, image)
                    release.install()
                    release.add_route()
                    tell("the chart is installed")
                    for name in names:
                        tell(f"{name} is seen on-premise as {release.wait_source(name)}")
                stay(cluster, Path(folder))
        except (ConditionTimeout, CommandFailed) as error:
            print(f"cluster: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            tell("tearing down")
    tell("gone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
