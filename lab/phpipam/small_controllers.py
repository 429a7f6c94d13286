"""The small controllers: sections, vrfs, vlans and tools, and the answer to OPTIONS."""

from lab.phpipam import filters, render
from lab.phpipam.call import Answer, Call, Refusal, Unrecorded
from lab.phpipam.columns import Row
from lab.phpipam.server import App, Server
from lab.phpipam.subnet_arithmetic import decimal
from lab.phpipam.subnets import read_usage

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


def sections(server: Server, call: Call) -> Answer:
    filters.reject(call)
    name, view = call.text("id"), call.text("id2")
    if name is None:
        return Answer(data=list(server.sections.values()))
    found = [row for row in server.sections.values() if name in (str(row["id"]), row["name"])]
    if view is None:
        if not found:
            raise Refusal(404, "Section does not exist")
        return Answer(data=found[0])
    if view != "subnets" or "id3" in call.params or not name.isdigit():
        raise Unrecorded("this call of sections/")
    rows = [row for row in server.subnets.values() if str(row["sectionId"]) == name]
    if not rows:
        raise Refusal(404, "No subnets found")
    rows.sort(key=lambda row: (-row["isFolder"], decimal(row["subnet"]), row["id"]))
    return Answer(data=[row if row["isFolder"] else row | {"usage": read_usage(server, row)} for row in rows])


def vrfs(server: Server, call: Call) -> Answer:
    filters.reject(call)
    if "id" not in call.params:
        return Answer(data=list(server.vrfs.values()))
    vrf = _known(server.vrfs, call)
    if call.text("id2") != "subnets":
        return Answer(data=vrf)
    return Answer(data=[row for row in server.subnets.values() if row["vrfId"] == vrf["id"]])


def vlans(server: Server, call: Call) -> Answer:
    filters.reject(call)
    vlan = _known(server.vlans, call)
    if call.text("id2") != "subnets":
        return Answer(data=vlan)
    rows = []
    for row in server.subnets.values():
        if row["vlanId"] == vlan["id"]:
            gateway = server.gateway(row["id"])
            rows.append(row if gateway is None else row | {"gatewayId": gateway["id"]})
    return Answer(data=rows)


def tools(server: Server, call: Call) -> Answer:
    filters.reject(call)
    if call.text("id") != "tags" or "id2" in call.params:
        raise Unrecorded("this call of tools/")
    return Answer(data=[render.tag(number, name) for number, name in server.tags.items()])


def options(app: App, call: Call) -> Answer:
    here = f"/api/{call.params['app_id']}"
    if not call.controller:
        if app.permission != 3:
            raise Unrecorded("OPTIONS of an app without admin permission")
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
