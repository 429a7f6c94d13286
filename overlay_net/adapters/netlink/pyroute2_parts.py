"""The parts of pyroute2 that this adapter uses, imported without the rest of the library.

Before Python imports a module of a package, it runs the package itself. That of pyroute2 imports everything that the
library offers, such as nftables, wireless and a database of the network: 10 MiB and 0.2 s that an agent never uses.
Here the package runs only if a name is used that no module of it has.
"""

import importlib.util
import sys
from typing import Any

PACKAGE = "pyroute2"


def _defer_package() -> None:
    if PACKAGE in sys.modules:
        return
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {PACKAGE!r}", name=PACKAGE)
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def run(name: str) -> Any:
        """Module-level ``__getattr__`` (PEP 562). Modules of the package are imported by the caller as usual."""
        if name.startswith("__") or importlib.util.find_spec(f"{PACKAGE}.{name}"):
            raise AttributeError(f"module {PACKAGE!r} has no attribute {name!r}", name=name, obj=package)
        del vars(package)["__getattr__"]
        loader.exec_module(package)
        return getattr(package, name)

    vars(package)["__getattr__"] = run
    sys.modules[PACKAGE] = package


_defer_package()

# After the package is deferred.
from pyroute2.ext.bpf import BPF  # noqa: E402
from pyroute2.ext.bpf import compile as compile_filter  # noqa: E402
from pyroute2.iproute.linux import AsyncIPRoute  # noqa: E402
from pyroute2.netlink import (  # noqa: E402
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_MULTI,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    rtnl,
)
from pyroute2.netlink.exceptions import NetlinkDecodeError, NetlinkError  # noqa: E402
from pyroute2.netlink.nlsocket import NetlinkRequest  # noqa: E402
from pyroute2.netlink.rtnl.fibmsg import fibmsg  # noqa: E402
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg  # noqa: E402
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # noqa: E402
from pyroute2.netlink.rtnl.iprsocket import IPRSocket  # noqa: E402
from pyroute2.netlink.rtnl.marshal import MarshalRtnl  # noqa: E402
from pyroute2.netlink.rtnl.ndmsg import NUD_FAILED  # noqa: E402

__all__ = [
    "BPF",
    "NLM_F_CREATE",
    "NLM_F_DUMP",
    "NLM_F_EXCL",
    "NLM_F_MULTI",
    "NLM_F_REPLACE",
    "NLM_F_REQUEST",
    "NUD_FAILED",
    "AsyncIPRoute",
    "IPRSocket",
    "MarshalRtnl",
    "NetlinkDecodeError",
    "NetlinkError",
    "NetlinkRequest",
    "compile_filter",
    "fibmsg",
    "ifaddrmsg",
    "ifinfmsg",
    "rtnl",
]
