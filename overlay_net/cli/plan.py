"""`overlay-net plan -f FILE`: what StaticRoutes would do, before they are applied. Nothing is written."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from overlay_net.adapters.kube import KubeApi
from overlay_net.cli.cluster import read_all
from overlay_net.cli.controller_settings import read_or_default
from overlay_net.cli.manifests import Validated, read_manifests, validate
from overlay_net.cli.options import answer, cluster_options, namespace_option, output_option
from overlay_net.cli.output import columns, shorten
from overlay_net.cli.protection import read_protection
from overlay_net.cli.routes import describe_gateways
from overlay_net.domain.allocation.agent_nodes import has_agent
from overlay_net.domain.routes.forecast import Effect, Forecast, PlannedNode, forecast
from overlay_net.model.api import JsonObject
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES, OVERLAY_POOLS, STATIC_ROUTES
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.model.selectors import Selector
from overlay_net.model.static_route import StaticRoute


@click.command()
@click.option(
    "-f",
    "--filename",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="YAML or JSON file with StaticRoutes, or - for standard input; repeatable.",
)
@namespace_option
@cluster_options
@output_option
def plan(files: Sequence[Path], namespace: str, **options: Any) -> int:
    """Show what StaticRoutes would do if they were applied: which nodes get which routes, what is refused or conflicts.

    Nothing is written: the API server validates them in a dry run, and the rules of the controller decide on the
    state of the cluster. The exit code is 1 if anything is refused or conflicts.
    """
    manifests = read_manifests(files)

    async def read(api: KubeApi) -> "Plan":
        return await make_plan(api, manifests, namespace)

    return answer(read, options)


async def make_plan(api: KubeApi, manifests: Sequence[JsonObject], namespace: str) -> "Plan":
    """``namespace`` is that of the release; empty: the release that manages the cluster."""
    validated = [await validate(api, each) for each in manifests]
    known, nodes, overlays, static_routes, pools = await asyncio.gather(
        read_or_default(api, namespace),
        read_all(api, NODES, Node.parse),
        read_all(api, NODE_OVERLAY_IPS, NodeOverlay.parse),
        read_all(api, STATIC_ROUTES, StaticRoute.parse),
        read_all(api, OVERLAY_POOLS, Pool.parse),
    )
    protection, notes = await read_protection(api, known, nodes, overlays, pools)
    objects = {overlay.name: overlay for overlay in overlays}
    agents = Selector.parse_text(known.settings.node_selector)
    managed = [
        PlannedNode(node, objects.get(node.name)) for node in nodes if has_agent(node, objects.get(node.name), agents)
    ]
    planned = [each.route for each in validated if each.route is not None]
    result = forecast(planned, static_routes, managed, protection)
    return Plan(result, tuple(each for each in validated if each.route is None), tuple(notes))


@dataclass(frozen=True, slots=True)
class Plan:
    forecast: Forecast
    invalid: tuple[Validated, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        return 1 if self.invalid or self.forecast.has_problems else 0

    def to_json(self) -> JsonObject:
        return {
            "accepted": self.exit_code == 0,
            "invalid": [{"staticRoute": each.name, "message": each.refusal} for each in self.invalid],
            "effects": [_effect_json(each) for each in self.forecast.effects],
            "notes": [*self.forecast.notes, *self.notes],
        }

    def lines(self, width: int | None) -> Iterator[Text]:
        yield from columns(("ACTION", "STATICROUTE", "SUBNET", "GATEWAY", "NODES", "MESSAGE"), self._rows(), width)
        for note in (*self.forecast.notes, *self.notes):
            yield Text(f"note: {note}", "yellow")

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for each in self.invalid:
            yield "refuse", each.name, "-", "-", "-", f"by the API server: {each.refusal}"
        for effect in self.forecast.effects:
            gateway = describe_gateways(effect.spec) if effect.spec is not None else "-"
            nodes = f"{len(effect.nodes)} ({shorten(effect.nodes)})" if effect.nodes else "-"
            yield effect.action, effect.static_route, str(effect.subnet or "-"), gateway, nodes, effect.message


def _effect_json(effect: Effect) -> JsonObject:
    return {
        "action": effect.action,
        "staticRoute": effect.static_route,
        "subnet": str(effect.subnet or ""),
        "gateways": [str(each.address) for each in effect.spec.gateways] if effect.spec is not None else [],
        "nodes": list(effect.nodes),
        "message": effect.message,
    }
