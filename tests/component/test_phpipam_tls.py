"""phpIPAM over TLS: trusted certificates, and an app with a static code instead of a login."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.pki import Authority
from overlay_net.adapters.phpipam import Secret, connect_phpipam
from overlay_net.model.errors import ConfigurationError, CredentialsRefused, Unavailable
from tests.component.phpipam_support import CODE, assert_nothing_secret, bench, capture_all_logs, owner

WITH_CODE: dict[str, Any] = {"security": "ssl_code", "code": CODE}


def served_as(authority: Authority, *hosts: str) -> ssl.SSLContext:
    issued = authority.issue_server("phpipam", hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ours")


@pytest.mark.parametrize(
    ("settings", "secret", "logins"),
    [
        pytest.param(WITH_CODE, {"secret": Secret(code=CODE)}, 0, id="app code"),
        pytest.param({"security": "ssl_token"}, {}, 1, id="user and password"),
    ],
)
async def test_address_is_reserved_over_tls(
    authority: Authority, settings: dict[str, Any], secret: dict[str, Any], logins: int
) -> None:
    tls = served_as(authority, "127.0.0.1")
    async with bench(tls=tls, ca_file=authority.certificate, **settings, **secret) as lab:
        made = await lab.backend().reserve(owner(), lab.pool())
        assert [row["ip"] for row in lab.rows()] == [str(made.address.ip)]
        assert lab.server.logins == logins
        assert lab.server.calls["POST user"] == logins


async def test_untrusted_certificate_is_reported_and_the_code_is_not_sent(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    capture_all_logs(caplog)
    others = Authority.create(tmp_path / "others")
    tls = served_as(authority, "127.0.0.1")
    async with bench(tls=tls, ca_file=others.certificate, secret=Secret(code=CODE), **WITH_CODE) as lab:
        with pytest.raises(Unavailable, match="certificate") as refused:
            await lab.client.read_subnet(lab.subnet)
        assert lab.call_count() == 0
        assert_nothing_secret(caplog, [refused.value], [CODE])


async def test_certificate_of_another_host_is_rejected(authority: Authority) -> None:
    tls = served_as(authority, "phpipam.example.com")
    async with bench(tls=tls, ca_file=authority.certificate, secret=Secret(code=CODE), **WITH_CODE) as lab:
        with pytest.raises(Unavailable, match="certificate"):
            await lab.client.read_subnet(lab.subnet)
        assert lab.call_count() == 0


async def test_any_certificate_is_accepted_without_verification(authority: Authority) -> None:
    tls = served_as(authority, "phpipam.example.com")
    async with bench(tls=tls, insecure=True, secret=Secret(code=CODE), **WITH_CODE) as lab:
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet


@pytest.mark.parametrize("other", [False, True], ids=["an unknown code", "the code of another app"])
async def test_wrong_code_is_sent_once_and_not_logged(
    authority: Authority, caplog: pytest.LogCaptureFixture, other: bool
) -> None:
    capture_all_logs(caplog)
    wrong = "Wrong-" + CODE[6:]
    tls = served_as(authority, "127.0.0.1")
    async with bench(tls=tls, ca_file=authority.certificate, secret=Secret(code=wrong), **WITH_CODE) as lab:
        if other:
            lab.server.add_app("other", "ssl_code", code=wrong)
        with pytest.raises(CredentialsRefused, match="rejected the app code") as refused:
            await lab.client.read_subnet(lab.subnet)
        for _ in range(20):
            with pytest.raises(CredentialsRefused):
                await lab.client.read_subnet(lab.subnet)
        assert lab.call_count() == 1
        assert_nothing_secret(caplog, [refused.value], [wrong, CODE])


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["no file", "a file without certificates"])
async def test_unusable_ca_file_is_reported(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"phpipam\.ca_file: .*ca\.pem"):
        async with connect_phpipam(ca_file=file, insecure=False, proxy=None, timeout=1, connections=1):
            pass
