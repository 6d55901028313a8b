"""The three services with real HTTP between them, and this test in the place of their sidecars."""

from __future__ import annotations

import base64
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx
import pytest

from tests.demo.running import Program
from tests.demo.shop.test_seen import payload

GATEWAY = "spiffe://cluster.local/ns/edge/sa/shop-gateway"


@pytest.fixture(scope="module")
def inventory() -> Iterator[Program]:
    with Program("isthmus.demo.shop", "inventory") as running:
        yield running


@pytest.fixture(scope="module")
def users() -> Iterator[Program]:
    with Program("isthmus.demo.shop", "users") as running:
        yield running


@pytest.fixture(scope="module")
def orders(inventory: Program, users: Program) -> Iterator[Program]:
    with Program("isthmus.demo.shop", "orders", INVENTORY_URL=inventory.url, USERS_URL=users.url) as running:
        yield running


def as_user(name: str, role: str = "customer") -> dict[str, str]:
    """What a sidecar would say of the user."""
    return {
        "x-jwt-payload": payload({"sub": name, "role": role}),
        "x-forwarded-client-cert": f"By=spiffe://cluster.local/ns/shop/sa/orders;URI={GATEWAY}",
        "authorization": "Bearer of-no-interest-here",
    }


def ask(program: Program, path: str, method: str = "GET", **options: Any) -> httpx.Response:
    return httpx.request(method, f"{program.url}{path}", trust_env=False, **options)


def test_a_customer_sees_own_orders_described_by_the_other_services(orders: Program) -> None:
    answer = ask(orders, "/orders", headers=as_user("alice"))
    assert answer.status_code == 200
    body = answer.json()
    assert [order["id"] for order in body["orders"]] == [1001, 1003]
    first = body["orders"][0]
    assert first["customer"] == {"id": "alice", "name": "Alice Moreau", "city": "Lyon"}
    assert first["article"]["name"] == "Sencha, 100 g"
    assert first["total_cents"] == 2 * 1190
    assert body["hops"][0] == {"service": "orders", "caller": GATEWAY, "subject": "alice"}
    assert [hop["service"] for hop in body["hops"]] == ["orders", "inventory", "users"]


def test_identities_are_the_sidecars_to_say_and_are_not_passed_on(orders: Program) -> None:
    hops = ask(orders, "/orders", headers=as_user("alice")).json()["hops"]
    assert [(hop["caller"], hop["subject"]) for hop in hops[1:]] == [(None, None), (None, None)]


def test_staff_sees_all(orders: Program) -> None:
    body = ask(orders, "/orders", headers=as_user("admin", "staff")).json()
    assert {1001, 1002, 1003} <= {order["id"] for order in body["orders"]}


def test_one_order_is_its_customers(orders: Program) -> None:
    assert ask(orders, "/orders/1002", headers=as_user("bob")).json()["article"]["sku"] == "kettle-08"
    assert ask(orders, "/orders/1002", headers=as_user("alice")).status_code == 404
    assert ask(orders, "/orders/1", headers=as_user("bob")).status_code == 404


def test_without_an_identity_there_is_nothing(orders: Program) -> None:
    assert ask(orders, "/orders").status_code == 401


def test_an_order_takes_from_the_shelf(orders: Program, inventory: Program) -> None:
    before = ask(inventory, "/stock/tea-assam").json()["available"]
    made = ask(orders, "/orders", "POST", headers=as_user("bob"), json={"sku": "tea-assam", "quantity": 3})
    assert made.status_code == 201
    assert made.json()["customer"]["id"] == "bob"
    assert made.json()["total_cents"] == 3 * 1450
    assert ask(orders, made.headers["location"], headers=as_user("bob")).status_code == 200
    assert ask(inventory, "/stock/tea-assam").json()["available"] == before - 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"sku": "cup-blue"}, 409),
        ({"sku": "nothing"}, 422),
        ({"sku": "../users"}, 422),
        ({"quantity": 1}, 400),
        ({"sku": "tea-assam", "quantity": 0}, 400),
        ({"sku": "tea-assam", "quantity": True}, 400),
        (["tea-assam"], 400),
    ],
)
def test_orders_that_cannot_be(orders: Program, body: object, status: int) -> None:
    assert ask(orders, "/orders", "POST", headers=as_user("bob"), json=body).status_code == status


def test_users_and_inventory(users: Program, inventory: Program) -> None:
    assert ask(users, "/users/bob").json()["email"] == "bob@example.com"
    assert ask(users, "/users/nobody").status_code == 404
    assert ask(inventory, "/stock/nothing").status_code == 404
    assert ask(inventory, "/stock/cup-blue/reservations", "POST", json={}).status_code == 409


def test_a_service_that_is_gone_is_named(users: Program) -> None:
    nowhere = "http://127.0.0.1:1"
    with Program("isthmus.demo.shop", "orders", INVENTORY_URL=nowhere, USERS_URL=users.url) as alone:
        answer = ask(alone, "/orders", headers=as_user("alice"))
    assert answer.status_code == 502
    assert answer.json() == {"error": "inventory: ConnectError", "status": None}


class _Proxy(BaseHTTPRequestHandler):
    """A forward proxy that remembers what it was asked, and refuses it."""

    asked: ClassVar[list[tuple[str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(403)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_calls_go_by_the_proxy_with_token_and_trace_headers() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with ThreadingHTTPServer(("127.0.0.1", 0), _Proxy) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, args=(0.02,))
        serving.start()
        url = f"http://w:secret@127.0.0.1:{proxy.server_address[1]}"
        with Program("isthmus.demo.shop", "orders", http_proxy=url, no_proxy="localhost,127.0.0.1") as orders:
            headers = {**as_user("bob"), "traceparent": trace, "x-other": "stays here"}
            answer = ask(orders, "/orders/1002", headers=headers)
        proxy.shutdown()
        serving.join()
    assert answer.status_code == 502
    assert answer.json()["status"] == 403
    asked = dict(_Proxy.asked)
    assert asked.keys() == {
        "http://inventory.shop.svc.cluster.local:8080/stock/kettle-08",
        "http://users.shop.svc.cluster.local:8080/users/bob",
    }
    for sent in asked.values():
        assert sent["proxy-authorization"] == "Basic " + base64.b64encode(b"w:secret").decode()
        assert sent["authorization"] == "Bearer of-no-interest-here"
        assert sent["traceparent"] == trace
        assert not sent.keys() & {"x-other", "x-jwt-payload", "x-forwarded-client-cert"}


def test_ends_at_once(users: Program) -> None:
    with Program("isthmus.demo.shop", "users") as program, httpx.Client(trust_env=False) as client:
        client.get(f"{program.url}/health")  # an idle connection stays open, as a sidecar's does
        assert program.stop() < 3


@pytest.mark.parametrize(("arguments", "port"), [(["orders", "users"], "1"), (["billing"], "1"), (["users"], "x")])
def test_wrong_usage_ends_with_a_word(arguments: list[str], port: str) -> None:
    argv = [sys.executable, "-m", "isthmus.demo.shop", *arguments]
    ended = subprocess.run(argv, env={"PORT": port}, capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert ended.stderr
