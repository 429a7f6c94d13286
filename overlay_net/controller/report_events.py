"""Writes events for agents' reports, as decided in domain.status.events; agents have no permission to write events."""

from overlay_net.domain.status.events import FindGateways, report_events
from overlay_net.model.names import NODE_OVERLAY_IPS
from overlay_net.model.overlay import NodeOverlay
from overlay_net.ops.events import EventRecorder
from overlay_net.runtime.store import Store


class ReportEvents:
    """Subscribes to the store; objects of the first list do not cause events."""

    def __init__(self, overlays: Store[NodeOverlay], find_gateways: FindGateways, events: EventRecorder) -> None:
        self._find_gateways = find_gateways
        self._events = events
        overlays.subscribe(self._overlay)

    def _overlay(self, name: str, old: NodeOverlay | None, new: NodeOverlay | None) -> None:
        if old is None or new is None:
            return
        for event in report_events(old, new, self._find_gateways):
            self._events.emit(NODE_OVERLAY_IPS, name, new.uid, event.reason, event.message, warning=event.warning)
