"""A cluster of kubelets as the documentation has it in kind: nodes and routers are containers that docker enters."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab.cluster.cluster import Cluster
from lab.net.namespaces import Namespace, join_bridge, leave_bridge
from lab.net.traffic import serve
from lab.net.vlan import BRIDGE
from tests.docs.shell import Shell

ROUTERS = ("router-1", "router-2")
DOCKER = """
case "$1 $2" in
{containers}
*) echo "docker $*: stands in for docker exec only" >&2; exit 1;;
esac
"""


@contextmanager
def kind_cluster(shell: Shell, cluster: Cluster, directory: Path) -> Iterator[None]:
    """Routers are on the network of the nodes; of docker, only ``docker exec`` is there."""
    with ExitStack() as stack:
        # It has the addresses that the routers of the documentation get.
        cluster.vlan.gateway.ip("link", "set", "inner", "down")
        stack.callback(cluster.vlan.gateway.ip, "link", "set", "inner", "up")
        machines: dict[str, Namespace] = dict(cluster.vlan.nodes)
        for name in ROUTERS:
            machines[name] = router = stack.enter_context(Namespace(name))
            join_bridge(router, BRIDGE, port=name)
            stack.callback(leave_bridge, name)
            # As the command of `docker run`, it answers with the address of the peer.
            stack.callback(serve(router, directory / f"{name}.log").kill9)
        shell.stand_in("docker", DOCKER.format(containers=_cases(machines)))
        yield


def _cases(machines: Mapping[str, Namespace]) -> str:
    return "\n".join(
        f'"exec {name}") shift 2; exec {shlex.join(machine.enter)} "$@";;' for name, machine in machines.items()
    )
