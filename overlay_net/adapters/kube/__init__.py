"""The Kubernetes API: connections, verbs with translated errors, and watches."""

from overlay_net.adapters.kube.agent_connection import connect_agent
from overlay_net.adapters.kube.connection import Connection
from overlay_net.adapters.kube.controller_connection import connect_controller
from overlay_net.adapters.kube.owned_fields import apply_owned
from overlay_net.adapters.kube.rest import KubeApi
from overlay_net.adapters.kube.source import KubeSource

__all__ = ["Connection", "KubeApi", "KubeSource", "apply_owned", "connect_agent", "connect_controller"]
