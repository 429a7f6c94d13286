"""A control plane that runs workloads: etcd and kube-apiserver, the controller manager and the scheduler."""

from collections.abc import Sequence
from typing import Any, ClassVar

from lab.cluster.api_server import ApiServer
from lab.cluster.programs import Programs
from lab.processes import Process

SERVICE_ADDRESS = "10.96.0.1"
API_PORT = 443
# Seconds without a heartbeat after which a node is not Ready; the default of 50 s is long for a test.
NODE_GRACE = "20s"


class ControlPlane(ApiServer):
    ALONE: ClassVar[tuple[str, ...]] = ("--enable-admission-plugins=NodeRestriction",)

    def _api_server_command(self, hosts: Sequence[str]) -> list[str]:
        kubelet_client = self.authority.issue_client("kubelet-client", "kube-apiserver", ("system:masters",))
        return [
            *super()._api_server_command(hosts),
            f"--kubelet-client-certificate={kubelet_client.certificate}",
            f"--kubelet-client-key={kubelet_client.key}",
            f"--kubelet-certificate-authority={self.authority.certificate}",
            # The names of nodes are their addresses, and there is no DNS.
            "--kubelet-preferred-address-types=InternalIP",
        ]

    def start_controllers(self, programs: Programs) -> None:
        """Start the controller manager, which creates pods, and the scheduler, which assigns them to nodes."""
        manager, scheduler = "system:kube-controller-manager", "system:kube-scheduler"
        more = [
            f"--service-account-private-key-file={self.authority.directory / 'service-account.key'}",
            f"--root-ca-file={self.authority.certificate}",
            "--use-service-account-credentials=true",
            f"--node-monitor-grace-period={NODE_GRACE}",
        ]
        self._controllers = [
            self._start(str(programs.kube_controller_manager), self.kubeconfig(manager), *more),
            self._start(str(programs.kube_scheduler), self.kubeconfig(scheduler)),
        ]

    def _start(self, program: str, kubeconfig: Any, *more: str) -> Process:
        name = program.rpartition("/")[2]
        words = [
            program,
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            # There is only one of each.
            "--leader-elect=false",
            *more,
        ]
        return Process(name, words, log=self.directory / f"{name}.log")

    def stop(self) -> None:
        for process in getattr(self, "_controllers", ()):
            process.kill9()
        super().stop()
