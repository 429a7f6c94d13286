"""The small controllers: sections, vrfs, vlans, tools, and the OPTIONS of the whole."""

from lab.phpipam import filters, render
from lab.phpipam.columns import Row
from lab.phpipam.space import decimal
from lab.phpipam.state import App, PhpIpam
from lab.phpipam.subnets import usage_of
from lab.phpipam.wire import Answer, Call, Refusal, Unrecorded

ROOTS = {
    "sections": "sections",
    "subnets": "subnets",
    "folders": "folders",
    "addresses": "addresses",
    "vlans": "vlan",
    "vrfs": "vrf",
    "nameservers": "tools/nameservers",
    "scanAgents": "tools/scanagents",
    "locations": "tools/locations",
    "racks": "tools/racks",
    "nat": "tools/nat",
    "tools": "tools",
}
CRUD = {"read": "GET", "create": "POST", "update": "PATCH", "delete": "DELETE"}


def sections(ipam: PhpIpam, call: Call) -> Answer:
    filters.refuse(call)
    name, view = call.text("id"), call.text("id2")
    if name is None:
        return Answer(data=list(ipam.sections.values()))
    found = [row for row in ipam.sections.values() if name in (str(row["id"]), row["name"])]
    if view is None:
        if not found:
            raise Refusal(404, "Section does not exist")
        return Answer(data=found[0])
    if view != "subnets" or "id3" in call.params or not name.isdigit():
        raise Unrecorded("this call of sections/")
    rows = [row for row in ipam.subnets.values() if str(row["sectionId"]) == name]
    if not rows:
        raise Refusal(404, "No subnets found")
    rows.sort(key=lambda row: (-row["isFolder"], decimal(row["subnet"]), row["id"]))
    return Answer(data=[row if row["isFolder"] else row | {"usage": usage_of(ipam, row)} for row in rows])


def vrfs(ipam: PhpIpam, call: Call) -> Answer:
    filters.refuse(call)
    if "id" not in call.params:
        return Answer(data=list(ipam.vrfs.values()))
    vrf = _known(ipam.vrfs, call)
    if call.text("id2") != "subnets":
        return Answer(data=vrf)
    return Answer(data=[row for row in ipam.subnets.values() if row["vrfId"] == vrf["id"]])


def vlans(ipam: PhpIpam, call: Call) -> Answer:
    filters.refuse(call)
    vlan = _known(ipam.vlans, call)
    if call.text("id2") != "subnets":
        return Answer(data=vlan)
    rows = []
    for row in ipam.subnets.values():
        if row["vlanId"] == vlan["id"]:
            gateway = ipam.gateway(row["id"])
            rows.append(row if gateway is None else row | {"gatewayId": gateway["id"]})
    return Answer(data=rows)


def tools(ipam: PhpIpam, call: Call) -> Answer:
    filters.refuse(call)
    if call.text("id") != "tags" or "id2" in call.params:
        raise Unrecorded("this call of tools/")
    return Answer(data=[render.tag(number, name) for number, name in ipam.tags.items()])


def options(app: App, call: Call) -> Answer:
    here = f"/api/{call.params['app_id']}"
    if not call.controller:
        if app.permission != 3:
            raise Unrecorded("OPTIONS of an app that is not an administrator's")
        roots = [{"rel": name, "href": f"{here}/{path}/"} for name, path in ROOTS.items()]
        return Answer(data={"permissions": "Admin", "controllers": roots}, fetched=False)
    if call.controller != "addresses" or "id" in call.params:
        raise Unrecorded("these OPTIONS")
    methods = [
        {"href": f"{here}/addresses/", "methods": [{"rel": "options", "method": "OPTIONS"}]},
        {
            "href": f"{here}/addresses/{{id}}/",
            "methods": [{"rel": name, "method": method} for name, method in CRUD.items()],
        },
    ]
    return Answer(data={"methods": methods}, fetched=False)


def _known(table: dict[int, Row], call: Call) -> Row:
    identifier = call.text("id") or ""
    row = table.get(int(identifier)) if identifier.isdigit() else None
    if row is None or call.text("id2") not in (None, "subnets"):
        raise Unrecorded(f"this call of {call.controller}/")
    return row
