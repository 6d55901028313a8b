from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from isthmus.envoy_api import to_json, unpack
from isthmus.filters.allow_policies import AllowPolicies
from isthmus.filters.credentials import client_log_fields
from isthmus.filters.global_limit import limit_log_fields
from isthmus.filters.rego import decision_log_fields
from isthmus.model.identity import Identity
from isthmus.model.proxy import Proxy, Role
from isthmus.model.telemetry import FileLog
from isthmus.xds.access_log import build_file_log, build_http_logs, build_tcp_log, build_unmatched_log
from isthmus.xds.outcome import went_otherwise, went_well

from .making import origin

PROXY = Proxy(Role.SIDECAR, "orders-1", "shop", {}, Identity("cluster.local", "shop", "orders"), origin())
(WELL, HTTP), TCP = (
    build_http_logs(PROXY, "inbound"),
    build_tcp_log(PROXY, "inbound", AllowPolicies(("rule-1", "rule-2"))),
)
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
    # The reason is one of a list of codes, some of whose signs name such headers.
    written = " ".join(str(value) for name, value in fields(log).items() if name != "reason").lower()
    for secret in ("authorization", "cookie", "%req(:path)", "original-path", "query"):
        assert secret not in written
    paths = [value for value in fields(log).values() if "PATH(" in str(value)]
    assert all(value == "%PATH(NQ:ORIG_OR_PATH)%" for value in paths), "NQ: without the query"


def test_each_request_has_one_of_two_lines_that_differ_in_the_reason() -> None:
    assert [log.filter for log in (WELL, HTTP)] == [went_well(), went_otherwise()]
    assert fields(WELL) == {**fields(HTTP), "reason": None}


def test_a_connection_that_no_rule_allowed_tells_which_were_there() -> None:
    assert fields(TCP)["allow_policies"] == ["rule-1", "rule-2"]
    assert fields(HTTP)["allow_policies"] == "%DYNAMIC_METADATA(isthmus:allow_policies)%"


def test_a_connection_has_nothing_of_a_request() -> None:
    assert not {"method", "path", "status", "authority"} & fields(TCP).keys()
    assert fields(TCP).keys() < fields(HTTP).keys()


def test_a_connection_that_no_chain_takes_is_told_with_its_reason() -> None:
    log = build_unmatched_log(PROXY, "gateway")
    assert list(log.filter.response_flag_filter.flags) == ["NR"]
    assert fields(log)["details"] == "%RESPONSE_CODE_DETAILS%"
    assert fields(log)["sni"] == "%REQUESTED_SERVER_NAME%"


def test_the_peer_is_the_identity_that_policies_see() -> None:
    assert fields(HTTP)["peer"] == fields(TCP)["peer"] == "%FILTER_STATE(isthmus.peer:PLAIN)%"


def test_every_field_that_the_guide_tells_of_is_there() -> None:
    table = [line.split("|")[1] for line in GUIDE.read_text().splitlines() if line.startswith("| `")]
    told = {name for cell in table for name in re.findall(r"`([a-z_]+)`", cell)}
    custom = {name for name in told if name.startswith("custom_")}
    asked = {**client_log_fields(), **decision_log_fields(), **limit_log_fields()}
    assert told - custom - asked.keys() - fields(HTTP).keys() == set()
    assert asked.keys() <= told
    assert len(told) > 20


def test_a_log_of_ones_own() -> None:
    labels: Any = unpack(
        build_file_log(FileLog("f", "/var/log/x", origin(), labels=(("a", "%PROTOCOL%"),))).typed_config
    )
    assert labels.path == "/var/log/x"
    assert dict(labels.log_format.json_format) == {"a": "%PROTOCOL%"}
    written: Any = unpack(build_file_log(FileLog("f", "/x", origin(), text="%PROTOCOL%", omit_empty=True)).typed_config)
    assert written.log_format.text_format_source.inline_string == "%PROTOCOL%\n", "a line has an end"
    assert written.log_format.omit_empty_values


def test_the_usual_text_is_istios_without_the_query() -> None:
    usual: Any = unpack(build_file_log(FileLog("f", "/x", origin())).typed_config)
    text = usual.log_format.text_format_source.inline_string
    assert text.startswith('[%START_TIME%] "%REQ(:METHOD)% %PATH(NQ:ORIG_OR_PATH)% %PROTOCOL%"')
    assert text.endswith("%ROUTE_NAME%\n")
