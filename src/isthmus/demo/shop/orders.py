"""``orders``: who bought what. ``GET /orders``, ``GET /orders/{id}``, ``POST /orders``."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from isthmus.demo.shop.answer import body_of, health, integer_of, not_found
from isthmus.demo.shop.peer import Peer, PeerFailed, http_client
from isthmus.demo.shop.seen import Seen, seen


@dataclass(frozen=True, slots=True)
class Order:
    id: int
    customer: str
    sku: str
    quantity: int


def _first_orders() -> dict[int, Order]:
    orders = (
        Order(1001, "alice", "tea-sencha", 2),
        Order(1002, "bob", "kettle-08", 1),
        Order(1003, "alice", "cup-blue", 4),
    )
    return {order.id: order for order in orders}


@dataclass(slots=True)
class Service:
    """The orders, and the services that know the rest about them."""

    inventory: Peer
    users: Peer
    orders: dict[int, Order] = field(default_factory=_first_orders)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1004))

    async def all(self, request: Request) -> Response:
        asker = _asker(request)
        described = [await self._describe(order, request) for order in self.orders.values() if _may_see(asker, order)]
        hops = [asker.as_json("orders")] + [hop for _, below in described[:1] for hop in below]
        return JSONResponse({"orders": [order for order, _ in described], "hops": hops})

    async def one(self, request: Request) -> Response:
        asker = _asker(request)
        order = self.orders.get(request.path_params["id"])
        # An order of somebody else looks like none.
        if order is None or not _may_see(asker, order):
            return not_found("no such order")
        described, hops = await self._describe(order, request)
        return JSONResponse({**described, "hops": [asker.as_json("orders"), *hops]})

    async def create(self, request: Request) -> Response:
        asker = _asker(request)
        body = await body_of(request)
        sku = body.get("sku")
        if not isinstance(sku, str) or not sku:
            raise HTTPException(400, "sku, the article, is missing")
        quantity = integer_of(body, "quantity")
        try:
            reservation = f"/stock/{quote(sku, safe='')}/reservations"
            await self.inventory.post(reservation, request.headers, {"quantity": quantity})
        except PeerFailed as failed:
            if failed.status in (404, 409):
                return JSONResponse({"error": failed.reason}, 422 if failed.status == 404 else 409)
            raise
        assert asker.subject is not None
        order = Order(next(self.numbers), asker.subject, sku, quantity)
        self.orders[order.id] = order
        described, hops = await self._describe(order, request)
        created = {**described, "hops": [asker.as_json("orders"), *hops]}
        return JSONResponse(created, 201, {"location": f"/orders/{order.id}"})

    async def _describe(self, order: Order, request: Request) -> tuple[dict[str, Any], list[Any]]:
        """The order with what the other services know of it, and what these saw of the caller."""
        article, customer = await asyncio.gather(
            self.inventory.get(f"/stock/{quote(order.sku, safe='')}", request.headers),
            self.users.get(f"/users/{quote(order.customer, safe='')}", request.headers),
        )
        described = {
            "id": order.id,
            "customer": {"id": customer["id"], "name": customer["name"], "city": customer["city"]},
            "article": {"sku": article["sku"], "name": article["name"]},
            "quantity": order.quantity,
            "total_cents": order.quantity * article["price_cents"],
            "available": article["available"],
        }
        return described, [article["hop"], customer["hop"]]


def _asker(request: Request) -> Seen:
    asker = seen(request.headers)
    if asker.subject is None:
        raise HTTPException(401, "nobody's token: is there a sidecar before this service?")
    return asker


def _may_see(asker: Seen, order: Order) -> bool:
    """What no proxy can know: whose order it is."""
    return asker.staff or order.customer == asker.subject


async def _peer_failed(_: Request, failed: Exception) -> Response:
    return JSONResponse({"error": str(failed), "status": getattr(failed, "status", None)}, 502)


def build_app() -> Starlette:
    client = http_client()
    service = Service(Peer("inventory", client), Peer("users", client))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/orders", service.all),
            Route("/orders", service.create, methods=["POST"]),
            Route("/orders/{id:int}", service.one),
        ],
        exception_handlers={PeerFailed: _peer_failed},
        lifespan=lifespan,
    )
