"""Deletes source translations that no longer fit the routes, in a task that reconciliations never wait for."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from overlay_net.agent.paced import rest_after
from overlay_net.domain.kernel.stale_translations import find_candidates, find_stale
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Desired, Observed
from overlay_net.model.route import Route
from overlay_net.model.route_lookup import RouteLookup
from overlay_net.model.translation import SelectTranslations, Translation

log = logging.getLogger(__name__)

RETRY: Final = 30.0
"""Seconds until the next attempt after an error."""


class FlowTable(Protocol):
    """Both methods raise KernelError."""

    async def list_translations(self, select: SelectTranslations) -> Sequence[Translation]: ...
    async def delete(self, translations: Sequence[Translation]) -> None: ...


class Lookups(Protocol):
    async def look_up(self, lookups: Sequence[RouteLookup]) -> list[Route | None]:
        """Raises KernelError."""
        ...


class TranslationWatch:
    def __init__(self, flows: FlowTable, kernel: Lookups) -> None:
        self._flows = flows
        self._kernel = kernel
        self._due = asyncio.Event()
        self._state: tuple[Desired, Observed] | None = None
        self._logged = ""

    def follow(self, desired: Desired, observed: Observed, *, changed: bool) -> None:
        """Check the translations after the first reconciliation, and after each that ``changed`` the kernel.

        The first one may complete what an earlier agent began.
        """
        if changed or self._state is None:
            self._due.set()
        self._state = desired, observed

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            clock = asyncio.get_running_loop().time
            began = clock()
            pause = 0.0 if await self._try() else RETRY
            await asyncio.sleep(max(pause, rest_after(clock() - began)))

    async def _try(self) -> bool:
        """Check once. Returns whether it succeeded; otherwise it is due again."""
        try:
            await self._check()
        except KernelError as error:
            if self._logged != str(error):
                log.warning("flows may keep an outdated source address", extra={"error": str(error)})
            self._logged = str(error)
            self._due.set()
            return False
        self._logged = ""
        return True

    async def _check(self) -> None:
        if self._state is None or self._state[0].address is None:
            return
        desired, observed = self._state
        select = partial(find_candidates, desired=desired, observed=observed)
        candidates = await self._flows.list_translations(select)
        destinations = list({each.destination: None for each in candidates})
        answers = await self._kernel.look_up([RouteLookup(each) for each in destinations])
        stale = find_stale(candidates, desired, dict(zip(destinations, answers, strict=True)))
        if stale:
            await self._flows.delete(stale)
            log.info("flows with an outdated source address deleted", extra={"flows": len(stale)})
