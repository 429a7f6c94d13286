"""Creates the configured IPAM backends, and the connection to phpIPAM."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from overlay_net.adapters.cluster_ipam import ClusterIpam
from overlay_net.adapters.kube import KubeApi
from overlay_net.adapters.phpipam import (
    ApiSession,
    CircuitBreakers,
    Client,
    Credentials,
    PhpIpam,
    Secret,
    connect_phpipam,
)
from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import Queues
from overlay_net.controller.ipam import IpamBackend
from overlay_net.model.errors import CredentialsRefused
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.settings.sections import PhpIpamSettings


def make_backends(
    settings: PhpIpamSettings | None,
    api: KubeApi,
    cluster: str,
    client: Client | None,
    caches: Caches,
    changed: Callable[[], None],
) -> list[IpamBackend]:
    """Create the in-cluster IPAM, and phpIPAM if there is a client.

    ``changed`` is called when phpIPAM begins or ceases to refuse reservations."""
    known = caches.known_addresses
    found: list[IpamBackend] = [ClusterIpam(api, cluster, known, caches.pools.get)]
    if client is not None and settings is not None:
        found.append(
            PhpIpam(
                client,
                cluster,
                caches.find_pool_by_subnet,
                known.used_by_others,
                owner_tag_field=settings.mark_field,
                lock_wait=settings.lock_wait,
                touch=settings.touch_interval,
                changed=changed,
            )
        )
    return found


@asynccontextmanager
async def open_phpipam(
    settings: PhpIpamSettings | None, queues: Queues, metrics: ControllerMetrics, fence: Callable[[], float] | None
) -> AsyncIterator[Client | None]:
    """Open a client of phpIPAM, or None if it is not configured. Changes of its Secret are picked up."""
    if settings is None:
        yield None
        return
    code = settings.auth == "code"
    fixed = Secret(*(each.get_secret_value() if each else "" for each in settings.fixed_secret))
    credentials = Credentials(settings.credentials_dir, fixed, code=code)
    credentials.check()
    timeout = settings.timeout.total_seconds()
    clock = asyncio.get_running_loop().time
    breakers = CircuitBreakers(clock, timeout, queues.ipam_recovered, queues.ipam_changed)
    metrics.watch_ipam(
        "phpipam",
        up=lambda: breakers.error is None or isinstance(breakers.error, CredentialsRefused),
        refused=lambda: isinstance(breakers.error, CredentialsRefused),
    )
    async with connect_phpipam(
        ca_file=settings.ca_file,
        insecure=settings.insecure_skip_tls_verify,
        proxy=settings.proxy or None,
        timeout=timeout,
        connections=2 * settings.concurrency,
    ) as session:
        api = ApiSession(
            session,
            settings.url,
            settings.app_id,
            credentials,
            breakers,
            metrics,
            code=code,
            concurrency=settings.concurrency,
            fence=fence,
        )
        watch = asyncio.ensure_future(credentials.watch(api.renew_credentials))
        try:
            yield Client(api)
        finally:
            watch.cancel()
