"""Actions in the words of a person, for errors and logs."""

from overlay_net.adapters.netlink.sysctl import split_key
from overlay_net.model.kernel import MAIN_TABLE
from overlay_net.model.kernel_actions import (
    AddAddress,
    AddLink,
    AddRoute,
    AdoptLink,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    KernelAction,
    ReplaceRoute,
    SetLinkUp,
    SetMacvlanMode,
    SetMtu,
    SetSysctl,
)
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule


def describe(action: KernelAction) -> str:
    """The action as a person would type it."""
    match action:
        case AddRoute(route) | ReplaceRoute(route) | DeleteRoute(route):
            verb = {AddRoute: "add", ReplaceRoute: "replace", DeleteRoute: "delete"}[type(action)]
            hops = ", ".join(str(hop.gateway or f"link {hop.link}") for hop in route.next_hops)
            kind = f"{route.kind} " if route.kind not in ("unicast", None) else ""
            table = f" table {route.table}" if route.table != MAIN_TABLE else ""
            way = f" via {hops or 'nothing'}" if not kind else ""
            return f"{verb} {kind}route {route.subnet}{way}{table}"
        case AddPolicyRule(rule) | DeletePolicyRule(rule):
            verb = "add" if isinstance(action, AddPolicyRule) else "delete"
            limit = f" suppress_prefixlength {rule.suppress}" if rule.suppress is not None else ""
            return f"{verb} rule {rule.priority}: from {rule.source or 'all'} lookup {rule.table}{limit}"
        case AddLink(name, parent, kind):
            return f"add {kind} {name} over {parent}"
        case AdoptLink(name):
            return f"mark link {name}"
        case SetLinkUp(name):
            return f"set link {name} up"
        case SetMtu(name, mtu):
            return f"set link {name} mtu {mtu}"
        case SetMacvlanMode(name, mode):
            return f"set link {name} type macvlan mode {mode}"
        case DeleteLink(_, name):
            return f"delete link {name}"
        case AddAddress(link, interface):
            return f"add address {interface} to {link}"
        case DeleteAddress(link, interface):
            return f"delete address {interface} from {link}"
        case SetSysctl(link, key, value):
            family, key = split_key(key)
            return f"set net.{family}.conf.{link}.{key} = {value}"
