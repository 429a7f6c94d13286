"""A node of the cluster: containerd and a kubelet on a machine, with their configuration."""

import json
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from lab.cluster.api_server import SERVICE_RANGE, ApiServer
from lab.cluster.cgroups import Cgroups
from lab.cluster.images import PAUSE_IMAGE
from lab.cluster.machine import Machine
from lab.cluster.programs import Programs
from lab.net.vlan import CONTROL_PLANE_ADDRESS
from lab.processes import CommandFailed, Process, child_pids, serves

HEALTH = "http://127.0.0.1:10248/healthz"
SOCKET = "/run/containerd/containerd.sock"
# restrict_oom_score_adj: lowering the score is not permitted if the lab itself runs in a container.
CONTAINERD = """
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "{socket}"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{plugins}"]
conf_dir = "{networks}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""


class NodeProcess(Process):
    """A program on a machine. `nsenter` forks to enter its PID namespace: the child must get the signals."""

    def send(self, number: signal.Signals) -> None:
        with suppress(OSError):
            for child in child_pids(self.pid):
                os.kill(child, number)


class ClusterNode:
    """Off until `boot`; its disk remains until `discard`."""

    def __init__(
        self,
        name: str,
        pod_subnet: str,
        labels: dict[str, str],
        api_server: ApiServer,
        programs: Programs,
        folder: Path,
        disk: Path,
    ) -> None:
        """``folder`` is for configuration and logs."""
        self.name = name
        self.pod_subnet = pod_subnet
        self.labels = labels
        self._api_server = api_server
        self._programs = programs
        self._folder = folder
        self._disk = disk
        self._imported: set[Path] = set()
        self._processes: list[NodeProcess] = []
        self.machine: Machine
        self.containerd: NodeProcess
        self.kubelet: NodeProcess
        folder.mkdir(parents=True, exist_ok=True)
        self._write_settings()

    def make_machine(self, port: str, cgroups: Cgroups) -> Machine:
        return Machine(self.name, port, disk=self._disk, packages=self._programs.packages, cgroups=cgroups)

    # --- Life ----------------------------------------------------------------------------------------------------

    def boot(self, machine: Machine, images: Sequence[Path]) -> None:
        """Start containerd and the kubelet on a running machine; images are imported once."""
        self.machine = machine
        machine.ip("route", "add", SERVICE_RANGE, "via", CONTROL_PLANE_ADDRESS)
        command = [str(self._programs.containerd), f"--config={self._folder / 'containerd.toml'}"]
        shim = self._programs.containerd_shim_runc_v2.parent
        self.containerd = self._process("containerd", command, PATH=f"{shim}{os.pathsep}{os.environ['PATH']}")
        self.containerd.wait_for(self._answers, f"containerd on {self.name} answers")
        for image in images:
            if image not in self._imported:
                self.ctr("images", "import", str(image))
                self._imported.add(image)
        self._kubelet_yaml()
        command = [
            str(self._programs.kubelet),
            f"--config={self._folder / 'kubelet.yaml'}",
            f"--kubeconfig={self._api_server.kubeconfig(f'system:node:{self.name}', ('system:nodes',))}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.name}",
            f"--node-labels={','.join(f'{key}={value}' for key, value in self.labels.items())}",
        ]
        self.kubelet = self._process("kubelet", command)

    def ctr(self, *words: str) -> str:
        return self.machine.run(str(self._programs.ctr), f"--address={SOCKET}", "--namespace=k8s.io", *words)

    def containers(self) -> dict[str, str]:
        """Id -> image of the containers that have a process."""
        running = {line.split()[0] for line in self.ctr("tasks", "list").splitlines()[1:] if "RUNNING" in line}
        listed = [line.split() for line in self.ctr("containers", "list").splitlines()[1:]]
        return {words[0]: words[1] for words in listed if words[0] in running}

    def programs(self) -> set[str]:
        """Names of all processes of the machine."""
        return set(self.machine.run("sh", "-c", "cat /proc/[0-9]*/comm", check=False).split())

    def wait_kubelet(self) -> None:
        """Wait until the kubelet is healthy."""
        self.kubelet.wait_for(
            lambda: self.machine.call(lambda: serves(HEALTH)), f"the kubelet of {self.name} is healthy"
        )

    def lost_power(self) -> None:
        """The machine lost power: wait until its processes have ended."""
        while self._processes:
            self._processes.pop().wait(10)

    def discard(self) -> None:
        """Delete the disk of a machine without power."""
        shutil.rmtree(self._disk, ignore_errors=True)

    def manifest(self) -> dict[str, Any]:
        """The Node, as a cloud provider creates it before the kubelet registers."""
        spec = {"podCIDR": self.pod_subnet, "podCIDRs": [self.pod_subnet]}
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": {**self.labels, "kubernetes.io/hostname": self.name}},
            "spec": spec,
        }

    def _process(self, program: str, command: Sequence[str], **env: str) -> NodeProcess:
        log = self._folder / f"{program}.log"
        enter = self.machine.enter
        process = NodeProcess(f"{program} on {self.name}", command, log=log, env=env, enter=enter)
        self._processes.append(process)
        return process

    def _answers(self) -> bool:
        try:
            self.ctr("version")
        except CommandFailed:
            return False
        return True

    # --- Settings ------------------------------------------------------------------------------------------------

    def _write_settings(self) -> None:
        networks = self._folder / "networks"
        networks.mkdir(exist_ok=True)
        (networks / "10-pods.conflist").write_text(json.dumps(self._network()))
        text = CONTAINERD.format(
            socket=SOCKET,
            pause=PAUSE_IMAGE,
            plugins=self._programs.cni_plugins,
            networks=networks,
            runc=self._programs.runc,
        )
        (self._folder / "containerd.toml").write_text(text)
        (self._folder / "resolv.conf").write_text("")

    def _network(self) -> dict[str, Any]:
        # In /run, which a reboot empties: the earlier pods are gone as well.
        ipam = {
            "type": "host-local",
            "ranges": [[{"subnet": self.pod_subnet}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": "/run/cni-leases",
        }
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": ipam}
        return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}

    def _kubelet_yaml(self) -> None:
        authority = self._api_server.authority
        serving = authority.issue_server(f"kubelet-{self.name}", [self.name])
        settings = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(serving.certificate),
            "tlsPrivateKeyFile": str(serving.key),
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.machine.cgroup,
            "failCgroupV1": False,
            "failSwapOn": False,
            "resolvConf": str(self._folder / "resolv.conf"),
            "volumePluginDir": "/var/lib/kubelet/plugins",
            "makeIPTablesUtilChains": False,
            "nodeStatusUpdateFrequency": "4s",
            # A full disk of the host must not evict pods or delete images.
            "evictionHard": {},
            "enforceNodeAllocatable": [],
            "imageGCHighThresholdPercent": 100,
            "oomScoreAdj": 0,
        }
        (self._folder / "kubelet.yaml").write_text(yaml.safe_dump(settings))
