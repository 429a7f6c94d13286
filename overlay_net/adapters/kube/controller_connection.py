"""Connection of the controller: kubernetes_asyncio loads and refreshes the credentials, including exec plugins.

Importing kubernetes_asyncio takes 70 MiB and half a second, so it is imported only when a controller connects.
"""

import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from overlay_net.adapters.kube.connection import MAX_CONNECTIONS, Connection
from overlay_net.adapters.kube.kubeconfig import read_kubeconfig
from overlay_net.model.errors import ConfigurationError
from overlay_net.runtime.tls_files import TlsFiles, client_context


@asynccontextmanager
async def connect_controller(kubeconfig: Path | str | None, context: str = "") -> AsyncIterator[Connection]:
    """Connect with ``kubeconfig``, else as the pod's service account. Raises ConfigurationError.

    ``context`` is one of the kubeconfig; empty: its current one.
    """
    from kubernetes_asyncio import client, config

    configuration = client.Configuration()

    async def load() -> None:
        if kubeconfig is not None:
            await config.load_kube_config(
                config_file=str(kubeconfig), context=context or None, client_configuration=configuration
            )
        else:
            config.load_incluster_config(client_configuration=configuration)

    if kubeconfig is not None:
        # The library raises arbitrary errors for a malformed file.
        read_kubeconfig(_existing(kubeconfig), context)

    async def reload() -> None:
        try:
            await load()
        except config.ConfigException as error:
            raise ConfigurationError(str(error)) from None

    try:
        await load()
        tls = TlsFiles(partial(_build_tls, configuration), partial(_find_files, configuration, kubeconfig), reload)
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

        # A separate session, as that of ApiClient reads netrc for every request and its certificates only once.
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
            proxy=configuration.proxy,
            trust_env=False,
        ) as session:
            yield Connection(
                server=configuration.host.rstrip("/"),
                session=session,
                authorization=authorization,
                server_hostname=configuration.tls_server_name,
                tls=tls,
            )


def _build_tls(configuration: Any) -> ssl.SSLContext:
    context = client_context(configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _find_files(configuration: Any, kubeconfig: Path | str | None) -> Sequence[Path]:
    """Return the files that the certificates are from; those that a kubeconfig contains have files as well."""
    named = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    return (*(_existing(kubeconfig) if kubeconfig else ()), *(Path(each) for each in named if each))


def _existing(kubeconfig: Path | str) -> Sequence[Path]:
    """Return the files in a list like that of the variable KUBECONFIG; missing ones are skipped unless all are."""
    paths = [Path(each) for each in str(kubeconfig).split(os.pathsep) if each]
    return [path for path in paths if path.exists()] or paths[:1]
