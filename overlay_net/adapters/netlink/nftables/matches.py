"""The conditions of a rule as JSON: a field, what it is compared with, and whether that is ``inverted``.

| field | compared with |
|---|---|
| source, destination | ``networks``, and the name of the ``set`` that has them |
| output | ``name`` of the link; a trailing ``*`` matches any rest |
| mark | ``value`` of the bits in ``mask`` |
| sourceType, destinationType | ``local``: an address of this node |
| version | ``version`` of IP |
| unread | nothing: ``text`` names a condition that is not examined |
"""

from overlay_net.model.api import JsonObject

Match = JsonObject
NAMES = {"source": "saddr", "destination": "daddr", "output": "oifname"}
TYPES = {"sourceType": "saddr", "destinationType": "daddr"}


def describe_match(found: Match) -> str:
    """Return the condition as nft writes it; empty for the version, which the addresses show."""
    kind = str(found["field"])
    sign = "!= " if found.get("inverted") else ""
    match kind:
        case "source" | "destination":
            return f"{NAMES[kind]} {sign}{_name_networks(found)}"
        case "output":
            return f"{NAMES[kind]} {sign}{found['name']}"
        case "mark":
            return f"mark {sign}{found['value']:#x}/{found['mask']:#x}"
        case "sourceType" | "destinationType":
            return f"{TYPES[kind]} type {sign}{'local' if found['local'] else 'not local'}"
        case "version":
            return ""
    return f"({found['text']})"


def _name_networks(found: Match) -> str:
    networks = found["networks"]
    if "set" in found:
        return f"@{found['set']}"
    return str(networks[0]) if len(networks) == 1 else f"{{ {', '.join(networks)} }}"
