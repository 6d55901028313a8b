from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from isthmus.envoy_api import to_json, unpack
from isthmus.model.identity import Identity
from isthmus.model.proxy import Proxy, Role
from isthmus.xds.access_log import build_http_log, build_tcp_log

from .making import origin

PROXY = Proxy(Role.SIDECAR, "orders-1", "shop", {}, Identity("cluster.local", "shop", "orders"), origin())
HTTP, TCP = build_http_log(PROXY, "inbound"), build_tcp_log(PROXY, "inbound", ("rule-1", "rule-2"))
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "access-logs.md"


def fields(log: Any) -> dict[str, Any]:
    config = unpack(log.typed_config)
    assert config.path == "/dev/stdout"  # type: ignore[attr-defined]
    found: dict[str, Any] = to_json(config)["log_format"]["json_format"]
    return found


@pytest.mark.parametrize("log", [HTTP, TCP])
def test_each_line_says_whose_it_is(log: Any) -> None:
    own = {name: fields(log)[name] for name in ("proxy", "hop", "self")}
    assert own == {
        "proxy": "sidecar~shop~orders-1",
        "hop": "inbound",
        "self": "spiffe://cluster.local/ns/shop/sa/orders",
    }


@pytest.mark.parametrize("log", [HTTP, TCP])
def test_no_query_no_token_no_cookie_is_written(log: Any) -> None:
    written = " ".join(str(value) for value in fields(log).values()).lower()
    for secret in ("authorization", "cookie", "%req(:path)", "original-path", "query"):
        assert secret not in written
    paths = [value for value in fields(log).values() if "PATH(" in str(value)]
    assert all(value == "%PATH(NQ:ORIG_OR_PATH)%" for value in paths), "NQ: without the query"


def test_a_connection_that_no_rule_allowed_tells_which_were_there() -> None:
    assert fields(TCP)["allow_policies"] == ["rule-1", "rule-2"]
    assert fields(HTTP)["allow_policies"] == "%DYNAMIC_METADATA(isthmus:allow_policies)%"


def test_a_connection_has_nothing_of_a_request() -> None:
    assert not {"method", "path", "status", "authority"} & fields(TCP).keys()
    assert fields(TCP).keys() < fields(HTTP).keys()


def test_the_peer_is_the_identity_that_policies_see() -> None:
    assert fields(HTTP)["peer"] == fields(TCP)["peer"] == "%FILTER_STATE(isthmus.peer:PLAIN)%"


def test_every_field_that_the_guide_tells_of_is_there() -> None:
    table = [line.split("|")[1] for line in GUIDE.read_text().splitlines() if line.startswith("| `")]
    told = {name for cell in table for name in re.findall(r"`([a-z_]+)`", cell)}
    custom = {name for name in told if name.startswith("custom_")}
    assert told - custom - fields(HTTP).keys() == set()
    assert len(told) > 20
