"""The servers that people have: apps that are set up wrong, other versions, numbers as text, proxies in between."""

from pathlib import Path
from typing import Any

import pytest

from overlay_net.model.errors import CredentialsRefused, NotFound, OverlayNetError, Refused
from tests.component.phpipam_support import APP, bench, owner


async def test_an_app_that_may_only_read_says_so_and_nobody_logs_in_again() -> None:
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
        pytest.param("overlayy", {}, "app_id", id="an app id that phpIPAM does not have"),
        pytest.param(APP, {"permission": 0}, "app is disabled", id="an app that is disabled"),
        pytest.param(APP, {"security": "ssl_token"}, "https", id="http where the app demands https"),
    ],
)
async def test_an_app_that_lets_nobody_in_is_refused_with_what_to_set(
    app: str, settings: dict[str, Any], named: str
) -> None:
    async with bench(app=app, **settings) as lab:
        with pytest.raises(CredentialsRefused, match=named):
            await lab.client.read_subnet(lab.subnet)
        asked = lab.asked()
        for _ in range(20):
            with pytest.raises(CredentialsRefused):
                await lab.client.read_subnet(lab.subnet)
        assert lab.asked() == asked == 1


# --- Servers of other versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.4", "1.7.4", "1.8.2"])
@pytest.mark.parametrize("stringify", [False, True], ids=["numbers", "numbers as text"])
async def test_a_life_of_an_address_on_every_version(version: str, stringify: bool) -> None:
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
async def test_a_list_of_nothing_is_empty_but_an_unknown_subnet_is_an_error(version: str) -> None:
    async with bench(version=version) as lab:
        bare = lab.server.add_subnet(1, "10.9.0.0/24")
        assert await lab.client.list_rows(bare) == []
        query = {"filter_by": "note", "filter_value": "nothing", "filter_match": "partial"}
        assert await lab.client.list_rows(lab.subnet, query) == []
        assert await lab.client.search_hostname("nobody") == []
        assert await lab.client.search_address("192.168.100.77") == []
        assert await lab.client.list_children(lab.subnet) == []
        with pytest.raises(NotFound):
            await lab.client.list_rows(999)
        with pytest.raises(OverlayNetError):
            await lab.client.read_subnet(999)
        assert lab.breaker.error is None


async def test_proxies_and_netrc_of_the_environment_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    async with bench() as lab:
        assert (await lab.client.read_subnet(lab.subnet))["id"] == lab.subnet
        assert lab.server.failed_logins == []
