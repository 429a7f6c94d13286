"""`python -m lab.demo`: tells the product's story on this machine, with real parts; it ends with 1 if it went wrong."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.build.assets import BuildFailed, find_assets
from lab.build.go_build import say
from lab.build.image import find_image
from lab.cluster.__main__ import stay
from lab.cluster.cluster import Cluster
from lab.cluster.life import Life
from lab.cluster.prepare import prepare
from lab.cluster.programs import find_cluster_programs
from lab.cluster.release import Release
from lab.net.enter import write_script
from lab.net.private import EXIT_USAGE, Missing, check, enter, is_private
from lab.net.traffic import serve
from lab.processes import CommandFailed, ConditionTimeout, stop_requested
from lab.sources import KINDS, Kind
from lab.story import Story, StoryFailed

PLAIN_WIDTH = 180


class Narrator:
    """Tells steps, facts and tables; coloured on a terminal, plain text elsewhere."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
        self._began = time.monotonic()
        self._steps = 0

    def step(self, text: str) -> None:
        self._steps += 1
        elapsed = f"{time.monotonic() - self._began:5.1f} s"
        self._console.print(f"\n[dim]{elapsed}[/dim]  [bold cyan]{self._steps}.[/bold cyan] [bold]{text}[/bold]")

    def fact(self, text: str) -> None:
        self._console.print(f"         {text}")

    def table(self, title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(
            title=title, title_justify="left", title_style="dim", box=None, pad_edge=False, padding=(0, 2, 0, 0)
        )
        for header in headers:
            table.add_column(header, no_wrap=True, header_style="bold")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def end(self, text: str, *, good: bool) -> None:
        self._console.print(f"\n[bold {'green' if good else 'red'}]{text}[/]")


def tell(story: Story, narrator: Narrator, *, keep: bool) -> None:
    story.build()
    story.plant_foreign(story.a_node)
    before, others = story.foreign_state(story.a_node), story.others()
    story.start()
    story.register_nodes(tuple(story.vlan.nodes))
    story.create_route()
    story.check_traffic()
    if keep:
        wait_for_interrupt(story, narrator)
        return
    story.change_gateway()
    story.remove_route_by_hand()
    story.delete_route()
    story.delete_node(story.a_node.name)
    if story.foreign_state(story.a_node) != before:
        raise StoryFailed("a link, address or route that is not ours was changed")
    narrator.fact("what else was on the node (a link, two addresses, two routes) is as it was")
    if story.others() != others:
        raise StoryFailed("a row of phpIPAM that is not ours was changed")
    if others:
        narrator.fact(f"the {len(others)} rows of other people in phpIPAM are as they were")


def wait_for_interrupt(story: Story, narrator: Narrator) -> None:
    """Leave the lab up until Ctrl-C, and say how to get in."""
    script = story.directory / "enter"
    machines = {**story.vlan.nodes, "gateway": story.vlan.gateway, "on-premise": story.vlan.on_premise}
    rows = {}
    if story.ipam == "phpipam":
        rows["rows"] = ["env", f"--chdir={Path.cwd()}", sys.executable, "-m", "lab.phpipam.process"]
    write_script(script, machines, story.api_server.admin(), story.assets.kubectl.parent, rows)
    asked = stop_requested()
    narrator.step("The lab stays up until Ctrl-C")
    narrator.fact(f"KUBECONFIG={story.api_server.admin()}")
    narrator.fact(f"{script} kubectl get noip,sroute,opool      the objects")
    if story.ipam == "phpipam":
        narrator.fact(f"{script} rows      the rows of phpIPAM")
    for name in machines:
        narrator.fact(f"{script} {name} ip route      inside {name}")
    narrator.fact(f"{story.directory}/*.log      what everything says")
    asked.wait()


def on_kubelets(directory: Path, narrator: Narrator, *, keep: bool) -> None:
    """The chart on a cluster of real kubelets, from helm install to helm uninstall."""
    image = find_image()
    narrator.step(
        "Three nodes with containerd and kubelets on a VLAN, a gateway appliance, an on-premise host behind it"
    )
    with Cluster(directory / "cluster", find_cluster_programs(), [image.archive], narrator.fact) as cluster:
        cluster.start()
        with serve(cluster.vlan.on_premise, directory / "traffic.log"):
            life = Life(cluster, Release(cluster, image), narrator)
            if keep:
                life.install()
                life.prove()
                stay(cluster, directory)
                return
            try:
                life.run()
            finally:
                narrator.table(*life.table())


def as_processes(directory: Path, narrator: Narrator, ipam: Kind, *, keep: bool) -> None:
    """The story with controller and agents as processes."""
    with Story(directory, find_assets(), narrator, ipam) as story:
        tell(story, narrator, keep=keep)


def main() -> int:
    parser = argparse.ArgumentParser(prog="nox -s demo --", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the lab up, say how to enter it, wait for Ctrl-C")
    parser.add_argument(
        "--ipam",
        choices=KINDS,
        default=KINDS[0],
        help="where addresses come from: a pool in the cluster, or a simulated phpIPAM server (default: %(default)s)",
    )
    parser.add_argument(
        "--processes",
        action="store_true",
        help="controller and agents as processes beside an API server, without kubelets; so it is with phpipam",
    )
    arguments = parser.parse_args()
    processes = arguments.processes or arguments.ipam != KINDS[0]
    try:
        if not is_private():
            check()
            # Builds need the network, which the private namespaces have not.
            find_assets(say)
            words = sys.argv[1:]
            if not processes and (lacking := prepare(say)):
                print(f"demo: no kubelets here, so this is the story with processes: {lacking}", file=sys.stderr)
                words = [*words, "--processes"]
            return enter([sys.executable, "-m", "lab.demo", *words])
    except (Missing, BuildFailed) as error:
        print(f"demo: {error}", file=sys.stderr)
        return EXIT_USAGE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    narrator = Narrator()
    with tempfile.TemporaryDirectory(prefix="overlay-net-") as folder:
        try:
            if processes:
                as_processes(Path(folder), narrator, arguments.ipam, keep=arguments.keep)
            else:
                on_kubelets(Path(folder), narrator, keep=arguments.keep)
        except (StoryFailed, ConditionTimeout, CommandFailed) as error:
            narrator.end(f"This did not happen: {error}", good=False)
            return 1
        except KeyboardInterrupt:
            narrator.end("Interrupted; the lab is torn down", good=False)
            return 130
    narrator.end("Everything happened as told; the lab is gone", good=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
