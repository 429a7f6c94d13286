"""How commands for people reach the cluster: the kubeconfig and context, and what they read of every kind."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from overlay_net.adapters.kube import KubeApi, connect_agent, connect_controller
from overlay_net.adapters.kube.agent_connection import UNSUPPORTED
from overlay_net.adapters.kube.connection import Connection
from overlay_net.adapters.kube.kubeconfig import read_kubeconfig
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import ConfigurationError, NotFound, Unavailable
from overlay_net.model.names import Resource

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Access:
    """Whom to ask, and for how long; as kubectl by default, else as the pod's service account."""

    kubeconfig: Path | None = None
    context: str = ""
    timeout: float = 30.0
    """Seconds in which the API server must answer all requests of one reading."""


@contextlib.asynccontextmanager
async def connect(access: Access) -> AsyncIterator[KubeApi]:
    """Raises ConfigurationError, and Unavailable if a credential plugin does not answer in time."""
    async with contextlib.AsyncExitStack() as stack:
        async with limit(access.timeout):
            # A credential plugin may hang as well.
            connection = await stack.enter_async_context(_open(access))
        # The limit of all requests together ends first, and is the one to report.
        yield KubeApi(connection, timeout=2 * access.timeout)


@contextlib.asynccontextmanager
async def limit(seconds: float | None) -> AsyncIterator[None]:
    """Raises Unavailable after ``seconds``; None: never."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Unavailable(f"no complete answer within {seconds:g} s") from None


def _open(access: Access) -> contextlib.AbstractAsyncContextManager[Connection]:
    """Open a connection without the client library, which takes half a second to import, if that is possible."""
    kubeconfig = access.kubeconfig or _default_kubeconfig()
    if kubeconfig is None and access.context:
        raise ConfigurationError(f"context {access.context!r}: there is no kubeconfig to find it in; set kubeconfig")
    if kubeconfig is not None and _needs_library(kubeconfig, access.context):
        return connect_controller(kubeconfig, access.context)
    return connect_agent(kubeconfig, access.context)


def _needs_library(kubeconfig: Path, context: str) -> bool:
    if os.pathsep in str(kubeconfig):
        # A list of files.
        return True
    found = read_kubeconfig([kubeconfig], context)
    return "proxy-url" in found.cluster or any(each in found.user for each in UNSUPPORTED)


def _default_kubeconfig() -> Path | None:
    """Return the file that kubectl would use; None within a pod."""
    if named := os.environ.get("KUBECONFIG"):
        return Path(named)
    default = Path.home() / ".kube" / "config"
    return default if default.exists() else None


async def read_all(
    api: KubeApi,
    resource: Resource,
    parse: Callable[[JsonObject], T],
    *,
    label_selector: str | None = None,
    metadata_only: bool = False,
) -> list[T]:
    """Return all objects of a kind, parsed page by page. Raises NotFound if the API server does not have the kind."""
    pages = api.pages(resource, label_selector=label_selector, metadata_only=metadata_only)
    try:
        return [parse(item) async for page in pages for item in page.items]
    except NotFound:
        raise missing_kind(resource) from None


def missing_kind(resource: Resource) -> NotFound:
    """Return the error for a kind of ours that the API server does not have."""
    return NotFound(
        f"the API server has no resource {resource.plural}.{resource.group}; is overlay-net installed in this cluster, "
        "and is this the right context?"
    )
