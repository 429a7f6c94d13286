"""Servers as they are in use: misconfigured apps, other versions, numbers as text, proxy settings."""

from pathlib import Path
from typing import Any

import pytest

from overlay_net.model.errors import CredentialsRefused, NotFound, OverlayNetError, Refused
from tests.component.phpipam_support import APP, bench, fresh_pool, owner


async def test_read_only_app_is_reported_without_another_login() -> None:
    async with bench(permission=1) as lab:
        await lab.client.read_subnet(lab.subnet)
        for _ in range(5):
            with pytest.raises(Refused, match=r"read-only; set its permissions to Read / Write"):
                await lab.backend().reserve(owner(), lab.pool())
        assert lab.server.logins == 1
        assert lab.breaker.error is None
        assert lab.rows() == []


@pytest.mark.parametrize(
    ("app", "settings", "named"),
    [
        pytest.param("overlayy", {}, "app_id", id="an unknown app id"),
        pytest.param(APP, {"permission": 0}, "app is disabled", id="a disabled app"),
        pytest.param(APP, {"security": "ssl_token"}, "https", id="http for an app that requires https"),
    ],
)
async def test_unusable_app_is_reported_with_the_fix_and_called_once(
    app: str, settings: dict[str, Any], named: str
) -> None:
    async with bench(app=app, **settings) as lab:
        with pytest.raises(CredentialsRefused, match=named):
            await lab.client.read_subnet(lab.subnet)
        calls = lab.call_count()
        for _ in range(20):
            with pytest.raises(CredentialsRefused):
                await lab.client.read_subnet(lab.subnet)
        assert lab.call_count() == calls == 1


# --- Servers of other versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.4", "1.7.4", "1.8.2"])
@pytest.mark.parametrize("stringify", [False, True], ids=["numbers", "numbers as text"])
async def test_address_life_cycle_on_every_version(version: str, stringify: bool) -> None:
    async with bench(version=version) as lab:
        lab.server.stringify = lab.server.stringify or stringify
        backend = lab.backend()
        assert await backend.find(owner(), None) == ()
        made = await backend.reserve(owner(), lab.pool())
        assert str(made.address) == "192.168.100.2/24"
        assert await backend.find(owner(), None) == (made,)
        assert (await backend.inventory((lab.pool(),))).reservations == (made,)
        await backend.release(made)
        await backend.release(made)
        assert await backend.find(owner(), made.address.ip) == ()
        assert lab.rows() == []


@pytest.mark.parametrize("version", ["1.4", "1.8.2"])
async def test_empty_lists_are_empty_but_an_unknown_subnet_is_an_error(version: str) -> None:
    async with bench(version=version) as lab:
        bare = lab.server.add_subnet(1, "10.9.0.0/24")
        assert await lab.client.list_rows(bare) == []
        query = {"filter_by": "note", "filter_value": "nothing", "filter_match": "partial"}
        assert await lab.client.list_rows(lab.subnet, query) == []
        assert await lab.client.search_hostname("unknown") == []
        assert await lab.client.search_address("192.168.100.77") == []
        assert await lab.client.list_children(lab.subnet) == []
        with pytest.raises(NotFound):
            await lab.client.list_rows(999)
        with pytest.raises(OverlayNetError):
            await lab.client.read_subnet(999)
        assert lab.breaker.error is None


async def test_proxy_variables_and_netrc_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\ndefault login other password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    async with bench() as lab:
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet
        assert lab.server.failed_logins == []


@pytest.mark.parametrize("node", ["0", "00", "all", "search", "index.php", "worker-1.example.com", "10.0.0.1"])
async def test_node_of_any_name_gets_one_row_and_releases_it(node: str) -> None:
    async with bench() as lab:
        backend = lab.backend()
        assert await backend.find(owner(node), None) == ()
        made = await backend.reserve(owner(node), lab.pool())
        assert await backend.find(owner(node), None) == (made,)
        await backend.release(made)
        assert lab.rows() == []


@pytest.mark.parametrize("version", ["1.4", "1.7.4", "1.8.2"])
@pytest.mark.parametrize("stringify", [False, True], ids=["numbers", "numbers as text"])
async def test_subnet_is_read_on_every_version(version: str, stringify: bool) -> None:
    async with bench(version=version) as lab:
        lab.server.stringify = lab.server.stringify or stringify
        facts = await lab.backend().inspect_pool(fresh_pool(lab.subnet))
        assert (str(facts.cidr), str(facts.gateway)) == ("192.168.100.0/24", "192.168.100.1")
        assert facts.usage.free > 0


@pytest.mark.parametrize("path", ["/", "//", "/api", "//api/", "/api//"])
async def test_url_with_empty_path_segments_works(path: str) -> None:
    async with bench() as lab, bench(url=f"{lab.url}{path}") as through:
        assert (await through.client.read_subnet(lab.subnet))["id"] == lab.subnet
