"""The nodes that changes of objects have woken."""

from overlay_net.controller.event_routes import EventRoutes, Queues


async def wake_all(routes: EventRoutes, queues: Queues) -> None:
    """Do the work of the queue ``wake``."""
    while len(queues.wake):
        key = await queues.wake.get()
        await routes.wake_nodes(key)
        queues.wake.done(key)


async def woken_nodes(routes: EventRoutes, queues: Queues) -> set[str]:
    """The nodes woken since the last call."""
    await wake_all(routes, queues)
    found = set()
    while len(queues.nodes):
        name = await queues.nodes.get()
        queues.nodes.done(name)
        found.add(name)
    return found
