"""Describes kernel actions, as fields of a log line or as a phrase in an error message."""

from typing import Final, TypeAlias

from overlay_net.adapters.netlink.sysctl import split_key
from overlay_net.model.kernel_actions import (
    AddAddress,
    AddLink,
    AddLocalRoute,
    AddRoute,
    AdoptLink,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    KernelAction,
    ReplaceRoute,
    SetLinkGroup,
    SetLinkUp,
    SetMacvlanMode,
    SetMtu,
    SetSysctl,
)
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule, PolicyRule
from overlay_net.model.route import MAIN_TABLE, Route

Fields: TypeAlias = dict[str, str | int]

_WORDS: Final = {"gateway": "via", "kind": "type", "link": "on", "parent": "on", "source": "from", "value": "to"}
"""Words in the phrase for fields whose name is not used as is."""


def action_fields(action: KernelAction) -> Fields:
    """Return the fields for ``extra=`` of a log line: ``action``, then its object, then the details."""
    match action:
        case AddRoute(route):
            return _route_fields("add route", route)
        case ReplaceRoute(route):
            return _route_fields("replace route", route)
        case DeleteRoute(route):
            return _route_fields("delete route", route)
        case AddPolicyRule(rule):
            return _rule_fields("add policy rule", rule)
        case DeletePolicyRule(rule):
            return _rule_fields("delete policy rule", rule)
        case AddLink() | AdoptLink() | SetLinkUp() | SetMtu() | SetMacvlanMode() | SetLinkGroup() | DeleteLink():
            return _link_fields(action)
        case AddAddress() | DeleteAddress() | AddLocalRoute():
            return _address_fields(action)
        case SetSysctl(link, key, value):
            family, key = split_key(key)
            return {"action": "set sysctl", "sysctl": f"net.{family}.conf.{link}.{key}", "value": value}


def describe(action: KernelAction) -> str:
    """Return the action as one phrase, e.g. ``add route 10.1.0.0/16 via 192.168.100.1 metric 50``."""
    (_, verb), (_, target), *details = action_fields(action).items()
    return " ".join([f"{verb} {target}", *(f"{_WORDS.get(key, key)} {value}" for key, value in details)])


def _link_fields(
    action: AddLink | AdoptLink | SetLinkUp | SetMtu | SetMacvlanMode | SetLinkGroup | DeleteLink,
) -> Fields:
    match action:
        case AddLink(name, parent, kind):
            return {"action": "add link", "link": name, "kind": kind, "parent": parent}
        case AdoptLink(name):
            return {"action": "adopt link", "link": name}
        case SetLinkUp(name):
            return {"action": "bring up link", "link": name}
        case SetMtu(name, mtu):
            return {"action": "set mtu", "mtu": mtu, "link": name}
        case SetMacvlanMode(name, mode):
            return {"action": "set macvlan mode", "mode": mode, "link": name}
        case SetLinkGroup(name, group):
            return {"action": "set link group", "group": group, "link": name}
        case DeleteLink(_, name):
            return {"action": "delete link", "link": name}


def _address_fields(action: AddAddress | DeleteAddress | AddLocalRoute) -> Fields:
    match action:
        case AddAddress(link, interface, metric):
            fields: Fields = {"action": "add address", "address": str(interface), "link": link}
            return fields | {"metric": metric} if metric else fields
        case DeleteAddress(link, interface):
            return {"action": "delete address", "address": str(interface), "link": link}
        case AddLocalRoute(link, interface):
            return {"action": "add local route", "subnet": str(interface.ip), "link": link}


def _route_fields(verb: str, route: Route) -> Fields:
    fields: Fields = {"action": verb, "subnet": str(route.subnet)}
    if route.next_hops:
        fields["gateway"] = ",".join(str(hop.gateway or f"link {hop.link}") for hop in route.next_hops)
    if route.kind not in ("unicast", None):
        fields["kind"] = route.kind
    if route.metric:
        fields["metric"] = route.metric
    if route.table != MAIN_TABLE:
        fields["table"] = route.table
    return fields


def _rule_fields(verb: str, rule: PolicyRule) -> Fields:
    fields: Fields = {"action": verb, "priority": rule.priority, "source": str(rule.source or "all")}
    fields["table"] = rule.table
    if rule.suppress is not None:
        fields["suppress_prefixlength"] = rule.suppress
    if rule.suppress_group is not None:
        fields["suppress_ifgroup"] = rule.suppress_group
    return fields
