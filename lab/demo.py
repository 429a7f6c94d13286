"""`python -m lab.demo`: show the product's main job on this machine; exit code 1 if a step fails."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lab.build.assets import BuildFailed, find_assets
from lab.build.go_build import print_progress
from lab.build.image import find_image
from lab.cluster.__main__ import wait_for_interrupt
from lab.cluster.cluster import Cluster
from lab.cluster.prepare import prepare
from lab.cluster.programs import find_cluster_programs
from lab.cluster.release import Release
from lab.net.enter import write_script
from lab.net.private import EXIT_USAGE, MissingRequirement, check, enter, is_private
from lab.net.traffic import serve
from lab.processes import CommandFailed, ConditionTimeout, stop_requested
from lab.scenario.address_source import KINDS, Kind
from lab.scenario.kubelet_lab import KubeletLab
from lab.scenario.kubelet_scenario import KubeletScenario
from lab.scenario.process_lab import ProcessLab
from lab.scenario.process_scenario import ProcessScenario
from lab.scenario.steps import ScenarioFailed
from overlay_net.cli.output import columns

NARROW = 80
"""Columns where the output is no terminal."""
INDENT = " " * 14


class ConsoleReporter:
    """Prints steps, facts and tables as wide as the terminal; coloured there, plain text elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, emoji=False)
        self._width = self._console.width if self._console.is_terminal else NARROW
        self._began = time.monotonic()
        self._steps = 0

    def step(self, text: str) -> None:
        self._steps += 1
        number = f"{time.monotonic() - self._began:5.1f} s  {self._steps:2}."
        self._console.print()
        self._lines(columns(None, [(number, text)], self._width), "bold")

    def fact(self, text: str) -> None:
        self._lines(columns(None, [(text,)], self._width, INDENT))

    def table(self, title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._lines(columns(None, [(title,)], self._width), "dim")
        self._lines(columns(headers, rows, self._width))

    def _lines(self, lines: Iterable[Text], style: str = "") -> None:
        for line in lines:
            # The lines fit already, and a longer word stays whole.
            self._console.print(line, style=style, soft_wrap=True)

    def end(self, text: str, *, success: bool) -> None:
        self._console.print()
        self._lines(columns(None, [(text,)], self._width), f"bold {'green' if success else 'red'}")


def run_with_kubelets(directory: Path, reporter: ConsoleReporter, *, keep: bool) -> None:
    """The chart on a cluster of real kubelets, from helm install to helm uninstall."""
    image = find_image()
    reporter.step(
        "Start three nodes with containerd and kubelets on a VLAN, a gateway appliance and an on-premise host behind it"
    )
    with Cluster(directory / "cluster", find_cluster_programs(), [image.archive], reporter.fact) as cluster:
        cluster.start()
        with serve(cluster.vlan.on_premise, directory / "traffic.log"):
            scenario = KubeletScenario(KubeletLab(cluster, Release(cluster, image), reporter))
            if keep:
                scenario.begin()
                wait_for_interrupt(cluster, directory)
                return
            try:
                scenario.run()
            finally:
                reporter.table(*scenario.table())


def run_with_processes(directory: Path, reporter: ConsoleReporter, ipam: Kind, *, keep: bool) -> None:
    """Controller and agents as processes next to an API server."""
    with ProcessLab(directory, find_assets(), reporter, ipam) as lab:
        scenario = ProcessScenario(lab)
        if keep:
            scenario.begin()
            keep_processes(lab, reporter)
            return
        try:
            scenario.run()
        finally:
            reporter.table(*scenario.table())


def keep_processes(lab: ProcessLab, reporter: ConsoleReporter) -> None:
    """Print how to enter the lab, and keep it running until Ctrl-C."""
    script = lab.directory / "enter"
    machines = {**lab.nodes, "gateway": lab.vlan.gateway, "on-premise": lab.vlan.on_premise}
    rows = {}
    if lab.ipam == "phpipam":
        rows["rows"] = ["env", f"--chdir={Path.cwd()}", sys.executable, "-m", "lab.phpipam.process"]
    write_script(script, machines, lab.api_server.admin(), lab.assets.kubectl.parent, rows)
    stop = stop_requested()
    reporter.step("The lab keeps running until Ctrl-C")
    reporter.fact(f"KUBECONFIG={lab.api_server.admin()}")
    reporter.fact(f"{script} kubectl get noip,sroute,opool,oslice  list the objects")
    if lab.ipam == "phpipam":
        reporter.fact(f"{script} rows      list the rows of phpIPAM")
    for name in machines:
        reporter.fact(f"{script} {name} ip route      run a command on {name}")
    reporter.fact(f"{lab.directory}/*.log      logs of all processes")
    stop.wait()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s demo --", description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="keep the lab running until Ctrl-C and print how to enter it"
    )
    parser.add_argument(
        "--ipam",
        choices=KINDS,
        default=KINDS[0],
        help="source of the addresses: a pool in the cluster, or a simulated phpIPAM server (default: %(default)s)",
    )
    parser.add_argument(
        "--processes",
        action="store_true",
        help="run controller and agents as processes, without kubelets; implied by --ipam=phpipam",
    )
    arguments = parser.parse_args()
    arguments.processes = arguments.processes or arguments.ipam != KINDS[0]
    return arguments


def enter_namespaces(*, processes: bool) -> int:
    """Build what is missing, then run the demo in private namespaces, which have no network for builds."""
    check()
    words = sys.argv[1:]
    if processes:
        find_assets(print_progress)
    elif missing := prepare(print_progress):
        print(f"demo: no kubelets on this machine, using processes instead: {missing}", file=sys.stderr)
        words = [*words, "--processes"]
    return enter([sys.executable, "-m", "lab.demo", *words])


def main() -> int:
    arguments = parse_arguments()
    try:
        if not is_private():
            return enter_namespaces(processes=arguments.processes)
    except (MissingRequirement, BuildFailed) as error:
        print(f"demo: {error}", file=sys.stderr)
        return EXIT_USAGE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    reporter = ConsoleReporter()
    with tempfile.TemporaryDirectory(prefix="overlay-net-") as folder:
        try:
            if arguments.processes:
                run_with_processes(Path(folder), reporter, arguments.ipam, keep=arguments.keep)
            else:
                run_with_kubelets(Path(folder), reporter, keep=arguments.keep)
        except (ScenarioFailed, ConditionTimeout, CommandFailed) as error:
            reporter.end(f"A step failed: {error}", success=False)
            return 1
        except KeyboardInterrupt:
            reporter.end("Interrupted; the lab is removed", success=False)
            return 130
    reporter.end("Every step succeeded; the lab is removed", success=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
