"""Asks the API server what the service accounts of a release may do."""

import asyncio
from collections.abc import Mapping

from overlay_net.adapters.kube import KubeApi
from overlay_net.cli.reading import AT_ONCE
from overlay_net.cli.release import Release
from overlay_net.domain.diagnosis.control_plane import PERMISSIONS
from overlay_net.domain.diagnosis.snapshot import Permission
from overlay_net.model.api import JsonObject
from overlay_net.model.names import ACCESS_REVIEWS
from overlay_net.model.parse import find_object, parse_text


async def review_access(api: KubeApi, release: Release) -> Mapping[Permission, bool]:
    """Return whether each permission that is needed is granted, for the accounts that exist."""
    accounts = {"controller": _account(release.controller), "agent": _account(release.agent)}
    limit = asyncio.Semaphore(AT_ONCE)

    async def is_allowed(permission: Permission) -> bool:
        async with limit:
            body = _access_review(release.namespace, accounts[permission.component], permission)
            answer = await api.create(ACCESS_REVIEWS, body)
        return find_object(answer, "status").get("allowed") is True

    asked = [permission for permission in PERMISSIONS if accounts[permission.component]]
    return dict(zip(asked, await asyncio.gather(*map(is_allowed, asked)), strict=True))


def _account(workload: JsonObject | None) -> str:
    return parse_text(find_object(workload or {}, "spec", "template", "spec").get("serviceAccountName"))


def _access_review(namespace: str, account: str, permission: Permission) -> JsonObject:
    resource, _, subresource = permission.resource.partition("/")
    attributes = {"group": permission.group, "resource": resource, "verb": permission.verb}
    attributes |= {"subresource": subresource} if subresource else {}
    return {
        "apiVersion": ACCESS_REVIEWS.api_version,
        "kind": ACCESS_REVIEWS.kind,
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "resourceAttributes": attributes,
        },
    }
