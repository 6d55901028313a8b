from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from isthmus.decide.rego.decision import Decision
from isthmus.decide.rego.engine import Engine, compile_policy
from isthmus.decide.rego.event import Event, Unmaskable, build_event, encode
from isthmus.decide.rego.source import Module, Policy

LABELS = {"app": "isthmus", "id": "local"}
INPUT: dict[str, Any] = {
    "attributes": {
        "request": {
            "http": {
                "method": "POST",
                "path": "/pay?access_token=abcdef&x=1",
                "headers": {"authorization": "Bearer abc", "cookie": "session=1", "x-user": "alice"},
            }
        }
    },
    "parsed_query": {"access_token": ["abcdef"], "x": ["1"]},
    "parsed_body": {"card": "4111", "lines": [{"sku": "a"}, {"sku": "b"}], "note": "isk_ab12cd34_secretsecret"},
}
SOURCE = Policy("shop/authz", (), {}, {"shop/authz": "seven"})


def decision(log: str = "", **fields: Any) -> Decision:
    """``log``: rules of the package system.log."""
    decided = Decision(
        decision_id="4ca636c1",
        policy="shop/authz",
        path="envoy/authz/allow",
        timestamp=datetime(2026, 11, 21, 10, 30, 0, 5, tzinfo=UTC),
        seconds=0.00025,
        requested_by="10.0.0.1:4711",
        input=INPUT,
        result=True,
        source=SOURCE,
        engine=engine(log) if log else None,
    )
    return replace(decided, **fields)


def engine(log: str) -> Engine:
    modules = (
        Module("a.rego", "package envoy.authz\n\ndefault allow := true\n"),
        Module("log.rego", f"package system.log\n\n{log}\n"),
    )
    return compile_policy(Policy("shop/authz", modules), ("envoy/authz/allow",))


def event(log: str = "", **fields: Any) -> Event:
    found = build_event(decision(log, **fields), LABELS)
    assert found is not None
    return found


def test_opas_format() -> None:
    found = event()
    assert {name: found[name] for name in found.keys() - {"input", "erased"}} == {
        "labels": {"app": "isthmus", "id": "local", "policy": "shop/authz"},
        "decision_id": "4ca636c1",
        "bundles": {"shop/authz": {"revision": "seven"}},
        "path": "envoy/authz/allow",
        "result": True,
        "requested_by": "10.0.0.1:4711",
        "timestamp": "2026-11-21T10:30:00.000005Z",
        "metrics": {"timer_rego_query_eval_ns": 250_000},
    }


def test_what_is_not_there_is_left_out() -> None:
    found = event(result=None, source=None, requested_by="", input=None)
    assert found.keys() == {"labels", "decision_id", "path", "timestamp", "metrics"}
    assert event(result=False)["result"] is False
    assert event(error="the engine failed")["error"] == {"message": "the engine failed"}
    lost = build_event(decision(), LABELS, 3)
    assert lost is not None
    assert lost["metrics"]["counter_decision_logs_dropped"] == 3


def test_what_clients_prove_themselves_with_is_never_told() -> None:
    found = event(result={"allowed": True, "headers": {"Authorization": "Basic x", "x": "y"}})
    text = encode(found).decode()
    for secret in ("Bearer abc", "session=1", "abcdef", "Basic x", "secretsecret"):
        assert secret not in text
    assert found["input"]["attributes"]["request"]["http"]["headers"] == {"x-user": "alice"}
    assert found["erased"] == [
        "/input/attributes/request/http/headers/authorization",
        "/input/attributes/request/http/headers/cookie",
        "/input/parsed_query/access_token",
        "/result/headers/Authorization",
    ]
    told = json.loads(text)
    assert told["input"]["attributes"]["request"]["http"]["path"] == "/pay?access_token=[masked]&x=1"
    assert told["input"]["parsed_body"]["note"] == "isk_[masked]"
    assert INPUT["attributes"]["request"]["http"]["headers"]["authorization"] == "Bearer abc", "a copy was masked"


def test_a_logins_id_token_is_never_told() -> None:
    """A CUSTOM policy is asked in front of its verification, which takes it out of the request."""
    http = {**INPUT["attributes"]["request"]["http"], "headers": {"x-isthmus-login-0123456789ab": "eyJ.e30.x"}}
    found = event(input={**INPUT, "attributes": {"request": {"http": http}}})
    assert "eyJ" not in encode(found).decode()


def test_masks_that_erase() -> None:
    found = event(
        'mask contains "/input/parsed_body/card" if input.input.attributes.request.http.method == "POST"\n'
        'mask contains {"op": "remove", "path": "/input/parsed_body/lines/0"}\n'
        'mask contains "/input/parsed_body/nothing/there"\n'
        'mask contains "/result"\n'
    )
    assert found["input"]["parsed_body"] == {"lines": [{"sku": "b"}], "note": "isk_ab12cd34_secretsecret"}
    assert "result" not in found
    assert {"/input/parsed_body/card", "/input/parsed_body/lines/0", "/result"} <= set(found["erased"])
    assert "/input/parsed_body/nothing/there" not in found["erased"]


def test_masks_that_replace() -> None:
    found = event(
        'mask contains {"op": "upsert", "path": "/input/parsed_body/card", "value": "****"}\n'
        'mask contains {"op": "upsert", "path": "/input/new/at", "value": {"a": [1]}}\n'
        'mask contains {"op": "upsert", "path": "/input/parsed_body/lines/1/sku", "value": null}\n'
        'mask contains {"op": "upsert", "path": "/input/parsed_body/lines/7", "value": 1}\n'
        'mask contains {"op": "upsert", "path": "/result", "value": "hidden"}\n'
        'mask contains {"op": "upsert", "path": "/nd_builtin_cache/x", "value": 1}\n'
    )
    assert found["input"]["parsed_body"]["card"] == "****"
    assert found["input"]["new"] == {"at": {"a": [1]}}
    assert found["input"]["parsed_body"]["lines"] == [{"sku": "a"}, {"sku": None}]
    assert (found["result"], "nd_builtin_cache" in found) == ("hidden", False)
    assert len(found["masked"]) == 4


@pytest.mark.parametrize(
    "rule",
    [
        'mask contains "/labels/app"',
        'mask contains "input/x"',
        'mask contains {"op": "replace", "path": "/input"}',
        'mask contains {"op": "upsert"}',
        "mask contains 7",
    ],
)
def test_a_mask_that_cannot_be_applied_lets_nothing_out(rule: str) -> None:
    with pytest.raises(Unmaskable):
        build_event(decision(rule), LABELS)


def test_a_mask_that_the_engine_cannot_ask_for_lets_nothing_out() -> None:
    deep: Any = "x"
    for _ in range(120):
        deep = {"a": deep}
    with pytest.raises(Unmaskable):
        build_event(
            decision('mask contains "/input/x" if input.input.parsed_body', input={"parsed_body": deep}), LABELS
        )


def test_dropping() -> None:
    rule = 'drop if {\n input.path == "envoy/authz/allow"\n input.result == true\n}'
    assert build_event(decision(rule), LABELS) is None
    assert build_event(decision(rule, result=False), LABELS) is not None
