"""etcd and kube-apiserver without controllers: TLS, RBAC, the Node authorizer, and an identity for each client."""

import json
import shutil
import socket
import ssl
import urllib.request
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import yaml

from lab.build.assets import Assets
from lab.cluster.pki import Authority, write_private, write_signing_key
from lab.processes import CommandFailed, Process, run
from overlay_net.model.names import Resource
from overlay_net.runtime.tls_files import client_context

SERVICE_RANGE = "10.96.0.0/16"
ADMINISTRATORS = ("system:masters",)
TOKEN_SECONDS = 86400


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ApiServer:
    """kube-apiserver with its etcd; all files are below one directory."""

    # Without a controller manager namespaces have no default service account.
    ALONE: ClassVar[tuple[str, ...]] = (
        "--disable-admission-plugins=ServiceAccount",
        "--endpoint-reconciler-type=none",
    )
    """Arguments of an API server without a controller manager."""

    def __init__(self, directory: Path, assets: Assets, addresses: Sequence[str], port: int) -> None:
        self.directory = directory
        self.assets = assets
        self.port = port or free_port()
        self._address = addresses[0]
        self.server = f"https://{self._address}:{self.port}"
        self.authority = Authority.create(directory / "pki")
        self._kubeconfigs = directory / "kubeconfigs"
        self._kubeconfigs.mkdir(exist_ok=True)
        hosts = ("127.0.0.1", "localhost", "kubernetes.default.svc", "10.96.0.1", *addresses)
        self._etcd_port = free_port()
        self.etcd = Process("etcd", self._etcd_command(), log=directory / "etcd.log")
        command = self._api_server_command(sorted(set(hosts)))
        self.kube_apiserver = Process("kube-apiserver", command, log=directory / "kube-apiserver.log")

    @classmethod
    def start(
        cls, directory: Path, assets: Assets, *, addresses: Sequence[str] = ("127.0.0.1",), port: int = 0
    ) -> Self:
        """Start both and wait until the server is ready. Kubeconfigs contain the first of ``addresses``."""
        directory.mkdir(parents=True, exist_ok=True)
        api_server = cls(directory, assets, addresses, port)
        try:
            api_server.wait_ready()
        except BaseException:
            api_server.stop()
            raise
        return api_server

    def _etcd_command(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{free_port()}"
        return [
            str(self.assets.etcd),
            f"--data-dir={self.directory / 'etcd'}",
            # After a power failure the lab is not needed any more, and fsync would take most of the time.
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ]

    def _api_server_command(self, hosts: Sequence[str]) -> list[str]:
        serving = self.authority.issue_server("kube-apiserver", hosts)
        private, public = write_signing_key(self.authority.directory)
        return [
            str(self.assets.kube_apiserver),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=0.0.0.0",
            # By default it uses the default route, which private namespaces do not have.
            f"--advertise-address={self._address}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={self.authority.certificate}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--allow-privileged=true",
            *self.ALONE,
        ]

    def wait_ready(self) -> None:
        self.kube_apiserver.wait_for(self._is_ready, "the API server is ready", timeout=90)

    def _is_ready(self) -> bool:
        try:
            return self._read("/readyz") == b"ok"
        except CommandFailed:
            return False

    # --- Identities ----------------------------------------------------------------------------------------------

    def kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig with a client certificate for ``user``."""
        name = user.replace(":", "_")
        path = self._kubeconfigs / f"{name}.yaml"
        if not path.exists():
            issued = self.authority.issue_client(name, user, groups)
            self._write(path, {"client-certificate": str(issued.certificate), "client-key": str(issued.key)})
        return path

    def admin(self) -> Path:
        return self.kubeconfig("admin", ADMINISTRATORS)

    def service_account_kubeconfig(self, namespace: str, name: str, node: str = "") -> Path:
        """A kubeconfig with a token of a service account in a file, as in a pod; ``node`` binds it to a pod there."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        spec: dict[str, Any] = {"expirationSeconds": TOKEN_SECONDS}
        if node:
            spec["boundObjectRef"] = self._pod(namespace, name, node)
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        response = self.kubectl("create", f"--raw={path}", "-f", "-", stdin=json.dumps(request))
        stem = "_".join(each for each in (namespace, name, node) if each)
        token = self._kubeconfigs / f"{stem}.token"
        write_private(token, json.loads(response)["status"]["token"].encode())
        kubeconfig = self._kubeconfigs / f"{stem}.yaml"
        self._write(kubeconfig, {"tokenFile": str(token)})
        return kubeconfig

    def _pod(self, namespace: str, account: str, node: str) -> dict[str, str]:
        """Create a Pod object of the account on the node; returns a reference to it."""
        name = f"{account}-{node}"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "nodeName": node,
                "serviceAccountName": account,
                "automountServiceAccountToken": False,
                "containers": [{"name": "none", "image": "none"}],
            },
        }
        self.apply(pod)
        uid = self.get("pod", name, f"--namespace={namespace}")["metadata"]["uid"]
        return {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}

    def _write(self, path: Path, user: dict[str, str]) -> None:
        content: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "user"}}],
            "clusters": [
                {
                    "name": "lab",
                    "cluster": {"server": self.server, "certificate-authority": str(self.authority.certificate)},
                }
            ],
            "users": [{"name": "user", "user": user}],
        }
        write_private(path, yaml.safe_dump(content).encode())

    # --- Tools ---------------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """The stdout of kubectl as administrator; raises CommandFailed with its stderr."""
        command = [
            str(self.assets.kubectl),
            f"--kubeconfig={self.admin()}",
            f"--cache-dir={self.directory / 'kubectl'}",
        ]
        return run([*command, *arguments], stdin=stdin)

    def get(self, *arguments: str) -> Any:
        """``kubectl get … -o json``, parsed."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def read(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        """An object, as ``get``, but in a millisecond of CPU, where kubectl takes 50: for what is polled."""
        found: dict[str, Any] = json.loads(self._read(resource.path(name, namespace=namespace)))
        return found

    def read_all(self, resource: Resource) -> list[dict[str, Any]]:
        """All objects of a kind."""
        items: list[dict[str, Any]] = json.loads(self._read(resource.path()))["items"]
        return items

    def _read(self, path: str) -> bytes:
        try:
            with urllib.request.urlopen(self.server + path, timeout=120, context=self._tls) as response:
                content: bytes = response.read()
                return content
        except OSError as error:
            raise CommandFailed(f"GET {path}: {error}") from None

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The administrator's."""
        issued = self.authority.issue_client("reader", "admin", ADMINISTRATORS)
        context = client_context(self.authority.certificate)
        context.load_cert_chain(issued.certificate, issued.key)
        return context

    def etcd_metrics(self) -> str:
        """The metrics of etcd, as text."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._etcd_port}/metrics", timeout=30) as response:
            text: str = response.read().decode()
        return text

    def table(self, *arguments: str) -> tuple[list[str], list[list[str]]]:
        """Header and rows of `kubectl get`."""
        lines = self.kubectl("get", *arguments).splitlines()
        header = lines[0] if lines else ""
        starts = [
            index for index, _ in enumerate(header) if header[index] != " " and header[index - 1 : index] in (" ", "")
        ]
        bounds = list(zip(starts, [*starts[1:], None], strict=True))
        cells = [[line[start:end].strip() for start, end in bounds] for line in lines]
        return cells[0] if cells else [], cells[1:]

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def helm(self, *arguments: str) -> str:
        """The stdout of helm as administrator, with its files in the same directory."""
        homes = {
            f"HELM_{kind}_HOME": str(self.directory / "helm" / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")
        }
        return run([str(self.assets.helm), f"--kubeconfig={self.admin()}", *arguments], env=homes)

    # --- Faults --------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Suspend the server: connections stay open, requests get no response."""
        self.kube_apiserver.pause()

    def resume(self) -> None:
        self.kube_apiserver.resume()

    def restart(self) -> None:
        self.kube_apiserver.restart()
        self.wait_ready()

    def back_up(self) -> Path:
        """Copy what etcd has stored, while it is stopped."""
        copy = self.directory / "backup"
        self.etcd.kill9()
        shutil.copytree(self.directory / "etcd", copy)
        self.etcd.start()
        self.wait_ready()
        return copy

    def restore(self, copy: Path) -> None:
        """Restart both with the content of a backup; resource versions go back to that time."""
        self.kube_apiserver.kill9()
        self.etcd.kill9()
        shutil.rmtree(self.directory / "etcd")
        shutil.copytree(copy, self.directory / "etcd")
        self.etcd.start()
        self.restart()

    def stop(self) -> None:
        """Kill both and delete what they stored."""
        self.kube_apiserver.kill9()
        self.etcd.kill9()
        shutil.rmtree(self.directory / "etcd", ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
