"""Connection of the controller: kubernetes_asyncio loads and refreshes the credentials, including exec plugins.

Importing kubernetes_asyncio takes 70 MiB and half a second, so it is imported only when a controller connects.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from overlay_net.adapters.kube.connection import MAX_CONNECTIONS, Connection
from overlay_net.model.errors import ConfigurationError


@asynccontextmanager
async def connect_controller(kubeconfig: str | None) -> AsyncIterator[Connection]:
    """Connect with ``kubeconfig``, else as the pod's service account. Raises ConfigurationError."""
    from kubernetes_asyncio import client, config

    configuration = client.Configuration()
    configuration.connection_pool_maxsize = MAX_CONNECTIONS

    async def load() -> None:
        if kubeconfig is not None:
            await config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)

    try:
        await load()
    except (config.ConfigException, OSError) as error:
        where = f"kubeconfig {kubeconfig}" if kubeconfig else "not running in a pod; set kubeconfig"
        raise ConfigurationError(f"{where}: {' '.join(str(error).split())}") from None

    async with client.ApiClient(configuration) as api:

        async def authorization(refused: bool) -> str | None:
            if refused:
                await load()
            headers: dict[str, str] = {}
            await api.update_params_for_auth(headers, [], ["BearerToken"])
            return headers.get("authorization")

        # A separate session with the TLS context of ApiClient, whose own session reads netrc for every request.
        async with aiohttp.ClientSession(
            connector=api.rest_client.pool_manager.connector,
            connector_owner=False,
            proxy=configuration.proxy,
            trust_env=False,
        ) as session:
            yield Connection(
                server=configuration.host.rstrip("/"),
                session=session,
                authorization=authorization,
                server_hostname=configuration.tls_server_name,
            )
