"""Removes exactly the objects that the agent manages on this node; the API server is not needed."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from overlay_net.adapters.checkpoint_file import CheckpointFile
from overlay_net.adapters.namespace_lock import NamespaceLock
from overlay_net.adapters.netlink import Kernel, describe
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Desired, Observed, OwnershipMark
from overlay_net.model.kernel_actions import KernelAction
from overlay_net.settings.agent_config import AgentConfig

MAX_PASSES: Final = 4
NOTHING: Final = AwaitedRoutes()
"""The routes of other processes do not matter."""


async def teardown(config: AgentConfig, report: Callable[[str], None]) -> list[str]:
    """Remove the checkpoint and our routes, policy rules, addresses and links. Returns the failures.

    ``report`` is called with one line for each removal. Nothing is removed while an agent runs on this node, which
    would restore everything. The checkpoint is deleted first, so that an agent of an earlier version, which does not
    hold the lock, cannot restore from it.
    """
    with closing(NamespaceLock()) as lock:
        holder = lock.acquire()
        if holder is not None and holder.is_trusted:
            process = f" (process {holder.pid})" if holder.pid else ""
            return [f"an agent is running on this node{process} and would restore everything; stop it first"]
        return await _teardown(config, report)


async def _teardown(config: AgentConfig, report: Callable[[str], None]) -> list[str]:
    failures = _delete_checkpoint(config.state_dir, config.node_name, report) if config.state_dir else []
    mark = config.mark
    async with Kernel(mark, config.proc_sys_net) as kernel:
        try:
            failures += await _remove_all(kernel, mark, report)
        except KernelError as error:
            failures.append(str(error))
    return failures


async def _remove_all(kernel: Kernel, mark: OwnershipMark, report: Callable[[str], None]) -> list[str]:
    """Remove all managed objects. Returns the failures. Raises KernelError if the kernel cannot be read."""
    # Whether an address can be deleted depends on promote_secondaries of its link.
    sysctl_links = _links_with_marked_addresses(await kernel.observe(awaited=NOTHING), mark)
    refused: dict[str, str] = {}
    for _ in range(MAX_PASSES):
        observed = await kernel.observe(sysctl_links, awaited=NOTHING)
        plan = plan_kernel(Desired(), observed, mark)
        left = [action for action in plan.actions if describe(action) not in refused]
        if not left:
            break
        for action in left:
            await _remove(kernel, action, report, refused)
    return [*refused.values(), *(problem.message for problem in plan.problems)]


async def _remove(kernel: Kernel, action: KernelAction, report: Callable[[str], None], refused: dict[str, str]) -> None:
    try:
        await kernel.apply(action)
    except KernelError as error:
        refused[describe(action)] = str(error)
    else:
        report(describe(action))


def _links_with_marked_addresses(observed: Observed, mark: OwnershipMark) -> frozenset[str]:
    names = {link.index: link.name for link in observed.links}
    marked = (each.link for each in observed.address_index.marked(mark.protocol))
    return frozenset(names[link] for link in marked if link in names)


def _delete_checkpoint(directory: Path, node: str, report: Callable[[str], None]) -> list[str]:
    try:
        for file in CheckpointFile(directory, node).delete():
            report(f"delete {file}")
    except OSError as error:
        return [f"cannot delete the checkpoint in {directory}: {error.strerror}"]
    return []
