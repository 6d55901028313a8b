"""Spans, from the demo's shop on real Envoys to a real receiver of OTLP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.otlp import Receiver, Span
from tests.real.telemetry import OTEL, ROOT, Shop, mesh_config, receiver_entry, telemetry
from tests.real.up import eventually

pytestmark = pytest.mark.real

_SECONDS = 60.0
"""Envoy hands spans over every five seconds."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Shop]:
    config = mesh_config(
        {
            "extensionProviders": [{"name": "otel", "opentelemetry": {"service": OTEL, "port": receiver.port}}],
            "defaultProviders": {"tracing": ["otel"]},
        }
    )
    everything = telemetry("mesh", {"tracing": [{"randomSamplingPercentage": 100}]}, ROOT)
    with Shop(tmp_path_factory.mktemp("traces"), config, receiver_entry(receiver), everything) as up:
        assert isinstance(up, Shop)
        yield up


def traced(shop: Shop, receiver: Receiver, spans: int, **headers: str) -> list[Span]:
    """All spans of one order's request."""
    trace = uuid.uuid4().hex
    parent = f"00-{trace}-00f067aa0ba902b7-01"
    assert shop.order(traceparent=parent, **headers).status_code == 200
    return list(eventually(lambda: len(found := receiver.traces().get(trace, [])) >= spans and found, _SECONDS))


def test_one_request_is_one_trace_through_the_gateway_and_every_sidecar(shop: Shop, receiver: Receiver) -> None:
    before = set(receiver.traces())
    assert shop.order().status_code == 200

    def whole() -> list[Span]:
        fresh = (spans for trace, spans in receiver.traces().items() if trace not in before)
        return next((spans for spans in fresh if len(spans) == 6), [])

    spans = eventually(whole, _SECONDS)
    by_id = {span.id: span for span in spans}
    (first,) = (span for span in spans if not span.parent)
    assert first.service == "shop-gateway.edge"
    steps = sorted((by_id[span.parent].service, span.service) for span in spans if span.parent)
    assert steps == [
        ("orders.shop", "inventory.shop"),
        ("orders.shop", "orders.shop"),
        ("orders.shop", "orders.shop"),
        ("orders.shop", "users.shop"),
        ("shop-gateway.edge", "orders.shop"),
    ]


def test_spans_tell_who_and_which_policy_decided(shop: Shop, receiver: Receiver) -> None:
    spans = traced(shop, receiver, 6)
    (inventory,) = (span for span in spans if span.service == "inventory.shop")
    (gateway,) = (span for span in spans if span.service == "shop-gateway.edge")
    assert inventory.attributes["isthmus.allow_policy"] == "ns[shop]-policy[inventory]-rule[0]"
    assert inventory.attributes["isthmus.peer"] == "spiffe://cluster.local/ns/shop/sa/orders"
    assert inventory.attributes["http.auth.status"] == "authenticated"
    assert inventory.resource["service.instance.id"] == "sidecar~shop~inventory"
    assert inventory.resource["service.namespace"] == "shop"
    assert gateway.name == "GET read-orders"
    told = gateway.attributes
    assert (told["http.request.method"], told["http.response.status_code"]) == ("GET", "200")
    assert (told["http.route"], told["url.path"], told["url.scheme"]) == ("read-orders", "/orders/1001", "https")
    assert told["tls.protocol.version"] == "TLSv1.3"


def test_spans_tell_how_long_the_handshake_and_the_policies_took(shop: Shop, receiver: Receiver) -> None:
    spans = traced(shop, receiver, 6)
    taken = [span for span in spans if "isthmus.policies_ms" in span.attributes]
    assert {span.service for span in taken} == {"shop-gateway.edge", "orders.shop", "inventory.shop", "users.shop"}
    for span in taken:
        assert 0 <= int(span.attributes["isthmus.policies_ms"]) < 10_000
        assert 0 <= int(span.attributes["isthmus.handshake_ms"]) < 10_000


def test_a_refusal_is_told_with_its_policy_and_the_log_has_the_trace(shop: Shop, receiver: Receiver) -> None:
    trace = uuid.uuid4().hex
    answer = shop.ask(token=False, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert answer.status_code == 403
    (span,) = eventually(lambda: receiver.traces().get(trace), _SECONDS)
    assert span.attributes["http.auth.status"] == "anonymous"
    assert span.attributes["isthmus.deny_policy"] == "ns[edge]-policy[token-required]-rule[0]"
    assert span.attributes["http.response.status_code"] == "403"
    lines = eventually(
        lambda: [line for line in shop.access_log("gateway~edge~shop-gateway") if line["trace_id"] == trace]
    )
    assert [line["deny_policy"] for line in lines] == ["ns[edge]-policy[token-required]-rule[0]"]
    assert int(lines[0]["handshake_ms"]) >= 0


def test_a_bad_token_is_told(shop: Shop, receiver: Receiver) -> None:
    trace = uuid.uuid4().hex
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "authorization": "Bearer e30.e30.e30"}
    assert shop.ask(token=False, headers=headers).status_code == 401
    (span,) = eventually(lambda: receiver.traces().get(trace), _SECONDS)
    assert span.attributes["http.auth.status"] == "failed"
    assert span.attributes["isthmus.token_failure"]


def test_no_span_has_the_query_or_the_token(shop: Shop, receiver: Receiver) -> None:
    trace = uuid.uuid4().hex
    parent = f"00-{trace}-00f067aa0ba902b7-01"
    assert shop.ask(path="/orders/1001?password=hush", headers={"traceparent": parent}).status_code == 200
    spans = eventually(lambda: len(found := receiver.traces().get(trace, [])) >= 6 and found, _SECONDS)
    written = " ".join(value for span in spans for value in span.attributes.values())
    assert "hush" not in written
    assert shop.token_of_alice not in written


def test_what_the_caller_decided_not_to_record_is_not_recorded(shop: Shop, receiver: Receiver) -> None:
    unrecorded = uuid.uuid4().hex
    assert shop.order(traceparent=f"00-{unrecorded}-00f067aa0ba902b7-00").status_code == 200
    traced(shop, receiver, 6)
    assert unrecorded not in receiver.traces()


def test_a_receiver_that_is_gone_touches_no_request_and_is_seen(tmp_path: Path) -> None:
    with Receiver() as receiver:
        config = mesh_config(
            {
                "extensionProviders": [{"name": "otel", "opentelemetry": {"service": OTEL, "port": receiver.port}}],
                "defaultProviders": {"tracing": ["otel"], "metrics": ["otel"]},
            }
        )
        everything = telemetry("mesh", {"tracing": [{"randomSamplingPercentage": 100}]}, ROOT)
        shop = Shop(tmp_path, config, receiver_entry(receiver), everything)
    # From here on nobody listens.
    with shop:
        assert [shop.order().status_code for _ in range(20)] == [200] * 20

        def failed() -> bool:
            text = shop.metrics_of("gateway~edge~shop-gateway")
            return any("upstream_cx_connect_fail" in line and "otel" in line for line in text.splitlines())

        eventually(failed, _SECONDS)
