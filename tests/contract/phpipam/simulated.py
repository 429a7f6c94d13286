"""The simulator in the state of the recorded server, and the changes made there between the recordings."""

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from lab.phpipam import Server, serve
from tests.contract.phpipam.comparison import Translation
from tests.contract.phpipam.replay import OTHER_TOKEN, Session

USERS = ("automation", "disableduser", "locktest", "nogroups")
# Name: security, permission, lock.
APPS = {
    "code_rwa": ("ssl_code", 3, "auto"),
    "code_rw": ("ssl_code", 2, "auto"),
    "code_ro": ("ssl_code", 1, "auto"),
    "nest": ("ssl_code", 2, "auto"),
    "links": ("ssl_code", 2, "auto"),
    "lk_file1": ("ssl_code", 2, "file"),
    "lk_mysql1": ("ssl_code", 2, "mysql"),
    "disabled": ("ssl_code", 0, "auto"),
    "none_rwa": ("none", 3, "auto"),
    "none_rw": ("none", 2, "auto"),
    "none_ro": ("none", 1, "auto"),
    "none_off": ("none", 2, "off"),
    "tok_rw": ("ssl_token", 2, "auto"),
    "tok_ro": ("ssl_token", 1, "auto"),
    "user_sec": ("user", 2, "auto"),
    "crypt_rw": ("crypt", 2, "auto"),
}
SECTIONS = {
    "Customers": "Section for customers",
    "IPv6": "Section for IPv6 addresses",
    "Lab": "Lab section",
    "Lab overlap": "other section",
    "Empty": "no subnets",
}
# The content of a new installation: (section, cidr, description, parent, VLAN, whether requests are allowed).
OLD_SUBNETS = (
    (2, "fd13:6d20:29dc:cf27::/64", "Private subnet 1", 0, 1, 1),
    (1, "10.10.0.0/16", "Business customers", 0, 0, 1),
    (1, "10.10.1.0/24", "Customer 1", 2, 0, 1),
    (1, "10.10.2.0/24", "Customer 2", 2, 0, 1),
    (1, None, "My folder", 0, 0, 0),
    (1, "10.65.22.0/24", "DHCP range", 5, 0, 0),
)
OLD_ADDRESSES = (
    (3, "10.10.1.3", "Server1", "server1.cust1.local", 2),
    (3, "10.10.1.4", "Server2", "server2.cust1.local", 2),
    (3, "10.10.1.5", "Server3", "server3.cust1.local", 3),
    (3, "10.10.1.6", "Server4", "server4.cust1.local", 3),
    (3, "10.10.1.245", "Gateway", None, 2),
    (4, "10.10.2.254", "Gateway", None, 2),
    (4, "10.10.2.10", "Server1", "ser1.client2.local", 2),
    (6, "10.65.22.4", "DHCP range", None, 4),
    (6, "10.65.22.5", "DHCP range", None, 4),
    (6, "10.65.22.6", "DHCP range", None, 4),
)


def recorded_server(now: Callable[[], float]) -> Server:
    """The server in its state before the first recording."""
    server = Server(now=now)
    for name, (security, permission, lock) in APPS.items():
        code = secrets.token_hex(16) if security == "ssl_code" else None
        wait = 0.1 if name.startswith("lk_") else 30
        server.add_app(name, security, permission, code, name == "nest", lock, wait, name == "links")
    for name in USERS:
        server.add_user(name, secrets.token_hex(8), enabled=name != "disableduser", groups=name != "nogroups")
    for name, description in SECTIONS.items():
        server.add_section(name, description)
    empty = {"editDate": None, "customer_id": None}
    for number, name in enumerate(("red", "blue"), 1):
        rest = {"rd": f"65000:{number}", "description": f"VRF {name}", "sections": "1;3"}
        server.vrfs[number] = {"id": number, "name": name, **rest, **empty}
    server.vlans[3] = {"id": 3, "domainId": 1, "name": "lab100", "number": 100, "description": "lab vlan", **empty}
    servers = {"namesrv1": "192.168.100.53;192.168.100.54", "description": "lab ns", "permissions": "1;2;3"}
    server.nameservers[2] = {"id": 2, "name": "LabNS", **servers, "editDate": None}
    for section, cidr, description, master, vlan, requests in OLD_SUBNETS:
        server.add_subnet(
            section,
            cidr,
            description=description,
            is_folder=cidr is None,
            vrf=0,
            master=master,
            vlanId=vlan,
            allowRequests=requests,
            **({"mask": ""} if cidr is None else {"showName": 1}),
        )
    for subnet, ip, description, hostname, tag in OLD_ADDRESSES:
        server.add_address(subnet, ip, description=description, hostname=hostname, tag=tag)
    return server


@dataclass
class Simulated:
    """``prepare`` repeats what an administrator, the clock or another client did before a recording."""

    server: Server
    bases: dict[str, str]
    clock: list[float]
    there: Translation = field(default_factory=Translation)
    verified: bool = False
    content_type: str = ""
    held: AsyncExitStack = field(default_factory=AsyncExitStack)

    def base(self, scheme: str) -> str:
        return self.bases[scheme]

    def code(self, app: str) -> str:
        return self.server.apps[app].code or ""

    def credentials(self, user: str) -> tuple[str, str]:
        return user, self.server.users[user].password if user in self.server.users else "unknown"

    async def prepare(self, number: int, session: Session) -> None:
        if action := STEPS.get(number):
            await action(self, session)


Step = Callable[[Simulated, Session], Awaitable[None]]


def setting(**values: object) -> Step:
    """A step that sets attributes of the server."""

    async def step(subject: Simulated, _: Session) -> None:
        for name, value in values.items():
            setattr(subject.server, name, value)

    return step


async def _one_hour_left(subject: Simulated, _: Session) -> None:
    subject.server.users["automation"].expires = subject.server.now() + 3600


async def _expire(subject: Simulated, _: Session) -> None:
    subject.server.users["automation"].expires = subject.server.now() - 1


async def _bad_tokens(subject: Simulated, session: Session) -> None:
    for _ in range(15):
        url = f"{subject.base('http')}/api/none_rw/sections/3/"
        assert (await session.send("GET", url, {"token": OTHER_TOKEN}, None))["status"] == 401


async def _wrong_logins(_: Simulated, session: Session) -> None:
    for _try in range(11):
        assert "Invalid username" in (await session.login("locktest", "none_rw", "wrong"))["body"]


async def _five_minutes(subject: Simulated, _: Session) -> None:
    subject.clock[0] += 301


async def _custom_fields(subject: Simulated, _: Session) -> None:
    server = subject.server
    server.add_custom_field("custom_cluster", 64, comment="cluster name")
    server.add_custom_field("custom_count", 8, kind="int", comment="number")
    server.add_custom_field("custom_expiry", kind="datetime", length=None)
    server.add_custom_field("custom_flag", 1, kind="tinyint")
    server.add_custom_field("custom_kind", kind="enum", choices=("vip", "node"), length=None)
    server.add_custom_field("custom_note", kind="text", length=None)
    server.add_custom_field("custom_env", 32, "subnets", comment="env")


async def _encrypted_write(subject: Simulated, _: Session) -> None:
    # Recording 652 created this row through a crypt app.
    subject.there.known["addresses", 58] = subject.server.add_address(11, "10.20.1.5", hostname="crypt.lab.test")


async def _load(subject: Simulated, _: Session) -> None:
    for host in range(1, 133):
        subject.server.add_address(21, f"10.40.0.{host}")


async def _hold_file(subject: Simulated, _: Session) -> None:
    subject.server.truncate(21)
    await subject.held.enter_async_context(subject.server.hold_lock("file"))


async def _hold_mysql(subject: Simulated, _: Session) -> None:
    await subject.held.aclose()
    await subject.held.enter_async_context(subject.server.hold_lock("mysql"))


async def _abandoned_post(subject: Simulated, session: Session) -> None:
    """A client disconnects while its write waits for the lock; the row appears once the lock is free."""
    await subject.held.aclose()
    url = f"{subject.base('http')}/api/none_rw/addresses/first_free/21/"
    headers = {"token": session.tokens["automation"][-1], "Content-Type": "application/json"}
    body = {"hostname": "abandoned.lab.test", "description": "claim abc"}
    async with subject.server.hold_lock("file"), aiohttp.ClientSession() as impatient:
        request = impatient.post(url, json=body, headers=headers, timeout=aiohttp.ClientTimeout(total=0.1))
        try:
            await request
        except TimeoutError:
            assert not subject.server.rows(21)
    async with asyncio.timeout(5):
        while not subject.server.rows(21):
            await asyncio.sleep(0.01)
    subject.there.known["addresses", 14327] = subject.server.rows(21)[0]["id"]


STEPS: dict[int, Step] = {
    134: _one_hour_left,
    147: _expire,
    171: _bad_tokens,
    172: _wrong_logins,
    177: _five_minutes,
    601: _custom_fields,
    654: _encrypted_write,
    683: _load,
    684: _hold_file,
    687: _hold_mysql,
    691: _abandoned_post,
    693: setting(database_up=False),
    696: setting(database_up=True, api_enabled=False),
    697: setting(api_enabled=True),
    698: setting(allow_unsafe=False),
    700: setting(allow_unsafe=True, stringify=True),
    701: setting(stringify=False),
    721: setting(backend_up=False),
    722: setting(backend_up=True),
    787: setting(link_field="custom_cluster"),
}


@asynccontextmanager
async def simulated(certificate: Path, key: Path) -> AsyncIterator[Simulated]:
    """One simulator, served over http and https."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    clock = [1_795_500_000.0]
    server = recorded_server(lambda: clock[0])
    async with serve(server) as http, serve(server, tls=context) as https:
        yield Simulated(server, {"http": http, "https": https}, clock)
