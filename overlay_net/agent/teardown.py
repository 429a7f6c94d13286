"""Takes down what is ours on this node, and nothing else; it needs no API server."""

from collections.abc import Callable
from pathlib import Path

from overlay_net.adapters.checkpoint_file import CheckpointFile
from overlay_net.adapters.netlink import Kernel, describe
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Desired, Observed, OwnershipMark
from overlay_net.model.kernel_actions import DeleteLink, KernelAction, KernelPlan
from overlay_net.model.names import LINK_ALIAS
from overlay_net.settings import AgentSettings

MAX_PASSES = 4


async def teardown(settings: AgentSettings, tell: Callable[[str], None]) -> list[str]:
    """Remove routes, addresses and links of ours and the state file, each of which is told; what could not be removed.

    The state goes first: an agent that starts in between must not bring back what is taken down here. The agent of this
    node must not run, or it makes everything anew.
    """
    failures = _forget(settings.state_dir, settings.node_name, tell) if settings.state_dir else []
    mark = OwnershipMark(settings.route_protocol, LINK_ALIAS)
    async with Kernel(mark, settings.proc_sys_net) as kernel:
        refused: dict[str, str] = {}
        carriers: frozenset[str] = frozenset()
        for _ in range(MAX_PASSES):
            try:
                observed = await kernel.observe(carriers)
                if not carriers:
                    # Whether an address can be deleted depends on promote_secondaries of its link.
                    carriers = _carriers(observed, mark)
                    observed = await kernel.observe(carriers)
            except KernelError as error:
                return [*failures, str(error)]
            plan = plan_kernel(Desired(), observed, mark)
            actions = (*plan.actions, *unfinished(settings.link, observed))
            left = [action for action in actions if describe(action) not in refused]
            if not left:
                break
            for action in left:
                await _remove(kernel, action, tell, refused)
    return [*failures, *refused.values(), *_blocked(plan)]


def unfinished(link: str, observed: Observed) -> tuple[DeleteLink, ...]:
    """A link of ours whose making was cut off before it was named and marked."""
    name = f"{link[:11]}.new"
    return tuple(
        DeleteLink(each.index, each.name)
        for each in observed.links
        if each.name == name and each.kind in ("macvlan", "ipvlan") and not each.alias and not each.up
    )


async def _remove(kernel: Kernel, action: KernelAction, tell: Callable[[str], None], refused: dict[str, str]) -> None:
    try:
        await kernel.apply(action)
    except KernelError as error:
        refused[describe(action)] = str(error)
    else:
        tell(describe(action))


def _carriers(observed: Observed, mark: OwnershipMark) -> frozenset[str]:
    names = {link.index: link.name for link in observed.links}
    marked = (each.link for each in observed.addresses if each.protocol == mark.protocol)
    return frozenset(names[link] for link in marked if link in names)


def _blocked(plan: KernelPlan) -> list[str]:
    return [problem.message for problem in plan.problems]


def _forget(directory: Path, node: str, tell: Callable[[str], None]) -> list[str]:
    try:
        for file in CheckpointFile(directory, node).remove():
            tell(f"delete {file}")
    except OSError as error:
        return [f"last state in {directory}: {error.strerror}"]
    return []
