"""A real server as the second subject: the tests use a section of their own and one app with user tokens.

PHPIPAM_URL (without /api), PHPIPAM_APP_ID, PHPIPAM_USERNAME and PHPIPAM_PASSWORD configure it; the recordings are of
version 1.8.2. The app may write and has the security "none" or "SSL with user token". Nothing outside the section is
written, and the section is deleted at the end.
"""

import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

from tests.contract.phpipam.comparison import Translation
from tests.contract.phpipam.recordings import Recording, numbers
from tests.contract.phpipam.replay import Session

UNPORTABLE = {
    "13 14 255-257 260 313": "folders",
    "6-8 235 246 254 265-267 413-416 419 443 760 761 773-779": "needs VRFs and another section",
    "268 269": "needs a VLAN",
    "102-178 645 646 771 772": "needs other users, a token that expires or a lock-out",
    "9 201-207 697 701 722 746 782": "refers to the section or a row by name, or lists objects outside the section",
    "214 215 222 442 447 448 492 493 505-508 512-517": "lists objects outside the section",
    "234 237 238 240 241 243 245 247 409-412 417-427 692 714 744": "searches outside the section",
    "105-109 449 451 540 544 545 548 549 781": "refers to the app or a row in an unusual way",
    "308 359 468 543 742": "would write to a row that no recording created",
    "491": "would send a ping",
    "547": "depends on the web server",
    "263 264 601-629 642 644 754 757-759": "needs certain custom fields, and none in earlier recordings",
    "683-687 691 693-696 698-700 721 786-788": "needs faults, load or settings of the server",
}
REASONS = {number: reason for text, reason in UNPORTABLE.items() for number in numbers(text)}
APPS = ("code_rwa", "none_rw", "tok_rw")
# These keys depend on the installation.
IGNORED = ("permissions", "nameserver", "vlanId", "custom_")


def unportable(recording: Recording) -> str | None:
    """The reason why a recording cannot be replayed with one app in one section; None if it can."""
    return REASONS.get(recording.number) if recording.app in APPS else "needs another app"


@dataclass
class Real:
    url: str
    app: str
    user: str
    secret: str
    token: str = ""
    there: Translation = field(default_factory=Translation)
    verified: bool = True
    content_type: str = "application/json"

    @classmethod
    def from_environment(cls) -> Self | None:
        url, app, user, secret = (
            os.environ.get(f"PHPIPAM_{name}", "") for name in ("URL", "APP_ID", "USERNAME", "PASSWORD")
        )
        return cls(url.rstrip("/"), app, user, secret) if url and app and user and secret else None

    def base(self, scheme: str) -> str:
        return self.url

    def code(self, app: str) -> str:
        return self.token

    def credentials(self, user: str) -> tuple[str, str]:
        return self.user, self.secret

    async def prepare(self, number: int, session: Session) -> None:
        session.tokens.setdefault("automation", [self.token])


@asynccontextmanager
async def real_server(subject: Real) -> AsyncIterator[Real]:
    """``subject`` with a section in place of the recorded "Lab"."""
    subject.there.apps = dict.fromkeys(APPS, subject.app)
    subject.there.ignored = IGNORED
    subject.there.own_only = True
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        session = Session(subject, client)
        login = await session.login("automation", subject.app)
        subject.token = _data(login)["token"]
        section = await _call(session, "POST", "sections/", {"name": f"contract {secrets.token_hex(4)}"})
        number = int(section["id"])
        subject.there.known["sections", 3] = number
        try:
            yield subject
        finally:
            await _call(session, "DELETE", f"sections/{number}/", None)


async def _call(session: Session, method: str, path: str, body: Any) -> dict[str, Any]:
    subject = session.subject
    headers = {"token": subject.code(""), "Content-Type": "application/json"}
    url = f"{subject.base('https')}/api/{subject.there.apps[APPS[0]]}/{path}"
    answer = await session.send(method, url, headers, body)
    if answer["status"] not in (200, 201):
        raise RuntimeError(f"{method} {path}: {answer['status']} {answer['body']}")
    envelope: dict[str, Any] = json.loads(answer["body"])
    return envelope


def _data(answer: dict[str, Any]) -> Any:
    if answer["status"] != 200:
        raise RuntimeError(f"login: {answer['status']} {answer['body']}")
    return json.loads(answer["body"])["data"]
