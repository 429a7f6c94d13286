"""Connection of the controller: kubernetes_asyncio loads and refreshes the credentials, including exec plugins.

Importing kubernetes_asyncio takes 70 MiB and half a second, so it is imported only when a controller connects.
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from overlay_net.adapters.kube.connection import MAX_CONNECTIONS, Connection
from overlay_net.adapters.kube.kubeconfig import read_kubeconfig
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

    if kubeconfig is not None:
        # The library raises arbitrary errors for a malformed file.
        read_kubeconfig(_existing(kubeconfig))
    try:
        await load()
        api = client.ApiClient(configuration)
    except (config.ConfigException, OSError, ValueError) as error:
        where = f"kubeconfig {kubeconfig}" if kubeconfig else "not running in a pod; set kubeconfig"
        raise ConfigurationError(f"{where}: {' '.join(str(error).split())}") from None

    async with api:

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


def _existing(kubeconfig: str) -> Sequence[Path]:
    """Return the files in a list like that of the variable KUBECONFIG; missing ones are skipped unless all are."""
    paths = [Path(each) for each in kubeconfig.split(os.pathsep) if each]
    return [path for path in paths if path.exists()] or paths[:1]
