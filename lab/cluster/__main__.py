"""`python -m lab.cluster`: run a cluster of real kubelets on this machine; Ctrl-C removes it."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lab.build.assets import BuildFailed
from lab.build.debian import PackageUnavailable
from lab.build.go_build import print_progress
from lab.build.image import Image, find_image
from lab.cluster.cluster import Cluster
from lab.cluster.prepare import prepare
from lab.cluster.programs import find_cluster_programs
from lab.cluster.release import Release
from lab.cluster.requirements import missing_requirement
from lab.net import vlan
from lab.net.enter import write_script
from lab.net.private import EXIT_USAGE, enter, is_private
from lab.net.traffic import serve
from lab.processes import CommandFailed, ConditionTimeout, stop_requested
from lab.scenario.kubelet_lab import KubeletLab
from lab.scenario.reporter import SilentReporter


def wait_for_interrupt(cluster: Cluster, directory: Path) -> None:
    """Print how to enter the cluster, and wait for Ctrl-C."""
    script = directory / "enter"
    machines = {name: node.machine for name, node in cluster.nodes.items()}
    others = {"gateway": cluster.vlan.gateway, "on-premise": cluster.vlan.on_premise}
    kubeconfig, programs = cluster.control_plane.admin(), cluster.programs.assets.kubectl.parent
    write_script(script, {**machines, **others}, kubeconfig, programs, commands={})
    stop = stop_requested()
    print(f"export KUBECONFIG={kubeconfig}")
    print(f"{script}                     # a shell from which the API server is reachable")
    print(f"{script} kubectl get nodes")
    for name in (*machines, *others):
        print(f"{script} {name} ip route")
    print(f"ls {directory}/*/*.log {directory}/nodes/*/*.log", flush=True)
    print_progress("the cluster keeps running until Ctrl-C")
    stop.wait()


def run(cluster: Cluster, image: Image, names: Sequence[str], directory: Path, *, install: bool) -> None:
    """Start the nodes, install the chart if asked, and wait for Ctrl-C."""
    cluster.start(names)
    print_progress("all nodes are Ready")
    with serve(cluster.vlan.on_premise, directory / "traffic.log"):
        if install:
            lab = KubeletLab(cluster, Release(cluster, image), SilentReporter())
            lab.release.install()
            lab.apply_route()
            print_progress("the chart is installed")
            for name in names:
                print_progress(f"the on-premise host observes {name} as {lab.wait_source(name)}")
        wait_for_interrupt(cluster, directory)


def enter_namespaces() -> int:
    """Build what is missing, then run in private namespaces, which have no network for builds."""
    if missing := missing_requirement() or prepare(print_progress):
        print(f"cluster: {missing}", file=sys.stderr)
        return EXIT_USAGE
    return enter([sys.executable, "-m", "lab.cluster", *sys.argv[1:]])


def main() -> int:
    parser = argparse.ArgumentParser(prog="nox -s cluster --", description=__doc__)
    parser.add_argument("--nodes", type=int, choices=range(1, 10), default=3, help="number of nodes (default: 3)")
    parser.add_argument("--install", action="store_true", help="install the chart, and a route to the on-premise host")
    arguments = parser.parse_args()
    try:
        if not is_private():
            return enter_namespaces()
        programs, image = find_cluster_programs(), find_image()
    except (BuildFailed, PackageUnavailable) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return EXIT_USAGE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    first = int(vlan.NODE_NAMES[0].rpartition(".")[2])
    names = [f"10.176.162.{first + number}" for number in range(arguments.nodes)]
    with (
        tempfile.TemporaryDirectory(prefix="overlay-net-") as folder,
        Cluster(Path(folder), programs, [image.archive], print_progress) as cluster,
    ):
        try:
            run(cluster, image, names, Path(folder), install=arguments.install)
        except (ConditionTimeout, CommandFailed) as error:
            print(f"cluster: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            print_progress("removing the cluster")
    print_progress("the cluster is removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
