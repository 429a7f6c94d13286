"""The protected subnets other than those of watched objects: those of the settings, and how to read the others."""

from overlay_net.adapters.kube.cluster_networks import find_sources
from overlay_net.controller.leader import Leader
from overlay_net.controller.protected_subnets import ProtectedSubnets
from overlay_net.domain.routes.protected_subnets import find_configured
from overlay_net.domain.routes.special_purpose import special_purpose


def make_protected_subnets(leader: Leader) -> ProtectedSubnets:
    """Protect the subnets from the settings, and return the reader of all others."""
    settings, protected = leader.settings, leader.caches.protected
    protected.protection.allow_default = settings.allow_default_route
    protected.protect("special-purpose", special_purpose(allow_link_local=settings.allow_link_local_routes))
    hosts = {leader.server: "API server"} | ({settings.phpipam.url: "phpIPAM"} if settings.phpipam else {})
    sources = find_sources(leader.api, hosts, services=not settings.service_subnets, pods=not settings.pod_subnets)
    for name, texts in (
        ("protected_subnets", settings.protected_subnets),
        ("service_subnets", settings.service_subnets),
        ("pod_subnets", settings.pod_subnets),
    ):
        protected.protect(name, find_configured(name, texts))
    return ProtectedSubnets(protected, sources, leader.metrics)
