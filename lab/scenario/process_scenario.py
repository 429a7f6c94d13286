"""The scenario on a lab without kubelets: from the first route until every address is released."""

from lab.processes import wait_until
from lab.scenario.foreign import OVERLAY_LINK, add_foreign_objects, foreign_state
from lab.scenario.process_lab import ProcessLab
from lab.scenario.steps import Scenario, expect


class ProcessScenario(Scenario[ProcessLab]):
    def begin(self) -> None:
        """Everything up to traffic from each node, with foreign kernel objects and records already present."""
        self.lab.build()
        for node in self.lab.nodes.values():
            add_foreign_objects(node)
        self._kernel_before = self._foreign_state()
        self._records_before = self.lab.source.foreign_records()
        self.lab.start()
        self.lab.register_nodes(tuple(self.lab.nodes))
        self.create_route()
        self.check_traffic()

    def run(self) -> None:
        self.begin()
        self.change_gateway()
        self.check_traffic()
        self.repair_route()
        self.check_traffic()
        self.remove_node(list(self.lab.nodes)[-1])
        self.delete_route()
        self.remove_all_nodes()
        self.check_foreign_objects()

    def remove_all_nodes(self) -> None:
        with self._step("Remove the other nodes; every address is released and no overlay link remains"):
            for name in self.lab.addresses():
                self.lab.remove_node(name)
            wait_until(
                lambda: not self.lab.reserved() and not self.lab.overlays(),
                "every address is released",
                timeout=self.lab.patience,
            )
            for node in self.lab.nodes.values():
                wait_until(
                    lambda node=node: OVERLAY_LINK not in node.ip("link"),  # type: ignore[misc]
                    f"{node.name} has no overlay link",
                )

    def check_foreign_objects(self) -> None:
        """What belongs to others is unchanged, in the kernels and in the source of addresses."""
        with self._step("Compare the links, addresses, routes and records that belong to others"):
            after, records = self._foreign_state(), self.lab.source.foreign_records()
            for name, before in self._kernel_before.items():
                expect(after[name] == before, f"{name}: a foreign object changed from {before} to {after[name]}")
            self.reporter.fact("the other link, its two addresses and two routes are unchanged on each node")
            expect(
                records == self._records_before, f"a foreign record changed from {self._records_before} to {records}"
            )
            if records:
                self.reporter.fact(f"the {len(records)} other records in phpIPAM are unchanged")

    def _foreign_state(self) -> dict[str, str]:
        return {name: foreign_state(node) for name, node in self.lab.nodes.items()}
