"""Sends the recorded requests in order and collects the differences of each response."""

import base64
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from tests.contract.phpipam.comparison import Translation, differences
from tests.contract.phpipam.recordings import UNORDERED, Recording

OTHER_TOKEN = "x" * 24
SKIPPED = ("Content-Type", "User-Agent", "Accept", "Accept-Encoding")


class Subject(Protocol):
    """A server, and how to bring it into the state that a recording requires."""

    there: Translation
    verified: bool
    """Whether its certificate is verified."""
    content_type: str
    """That of requests without a body that were recorded without one, which version 1.7.4 rejects; empty for none."""

    def base(self, scheme: str) -> str:
        """The address for a scheme, without a path."""
        ...

    def code(self, app: str) -> str:
        """The code of an app, or its replacement."""
        ...

    def credentials(self, user: str) -> tuple[str, str]:
        """Name and password for a user of the recordings."""
        ...

    async def prepare(self, number: int, session: "Session") -> None: ...


@dataclass
class Session:
    """One client of a subject, with the tokens that it has received."""

    subject: Subject
    client: aiohttp.ClientSession
    tokens: dict[str, list[str]] = field(default_factory=dict)

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: Any) -> dict[str, Any]:
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        if self.subject.content_type and body is None:
            headers = {"Content-Type": self.subject.content_type, **headers}
        request = self.client.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=text,
            skip_auto_headers=SKIPPED,
            allow_redirects=False,
            ssl=self.subject.verified,
        )
        async with request as response:
            return {
                "status": response.status,
                "headers": CIMultiDict(response.headers),
                "body": await response.text(),
                "https": url.startswith("https:"),
            }

    async def login(self, user: str, app: str, password: str | None = None) -> dict[str, Any]:
        name, right = self.subject.credentials(user)
        headers = {"Authorization": basic(name, right if password is None else password)}
        answer = await self.send("POST", f"{self.subject.base('http')}/api/{app}/user/", headers, None)
        self.note_token(user, answer)
        return answer

    async def replay(self, recording: Recording) -> list[str]:
        """The differences between the response and the recorded one."""
        request = recording.request
        headers = {name: self._fill_placeholders(recording, value) for name, value in request["headers"].items()}
        path, body = self.subject.there.translate_request(
            request["method"], self._fill_placeholders(recording, request["path"]), request["body"]
        )
        answer = await self.send(request["method"], self.subject.base(request["scheme"]) + path, headers, body)
        if recording.response["status"] == 201:
            self.subject.there.learn(recording.response, answer)
        if user := re.match(r"Basic <base64 (\w+):", request["headers"].get("Authorization", "")):
            self.note_token(user[1], answer)
        return differences(recording.response, answer, self.subject.there, recording.number in UNORDERED)

    def note_token(self, user: str, answer: dict[str, Any]) -> None:
        if answer["status"] == 200:
            token = json.loads(answer["body"])["data"]["token"]
            if token not in self.tokens.setdefault(user, []):
                self.tokens[user].append(token)

    def _fill_placeholders(self, recording: Recording, text: str) -> str:
        """``text`` with the placeholders of a recording replaced."""
        if login := re.fullmatch(r"Basic <base64 (\w+):PASSWORD>", text):
            return self._basic(recording.number, login[1])
        text = re.sub(r"<APP_CODE (\w+)>", lambda match: self.subject.code(match[1]), text)
        text = re.sub(r"<TOKEN ([a-z]+)[#\d]*>", lambda match: self._token(recording.number, match[1]), text)
        other = self.tokens["automation"][-1].swapcase() if recording.number == 144 else OTHER_TOKEN
        return text.replace("<TOKEN 24 chars>", other)

    def _token(self, number: int, user: str) -> str:
        # Recording 151 sends the previous, invalid token.
        return self.tokens[user][-2 if number == 151 else -1]

    def _basic(self, number: int, user: str) -> str:
        name, password = self.subject.credentials(user)
        return basic(name, {110: "wrong", 111: "wrong", 115: "", 172: "wrong"}.get(number, password))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def replay_all(
    recordings: list[Recording], subject: Subject, prepare: Callable[[int, Session], Awaitable[None]]
) -> dict[int, list[str]]:
    """The differences by number; a recording that cannot be replayed counts as different."""
    found = {}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        session = Session(subject, client)
        for recording in recordings:
            await prepare(recording.number, session)
            try:
                found[recording.number] = await session.replay(recording)
            except (aiohttp.ClientError, LookupError, ValueError) as error:
                found[recording.number] = [f"not replayed: {error!r}"]
    return found
