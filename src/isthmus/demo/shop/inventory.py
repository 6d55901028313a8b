"""``inventory``: what is on the shelves. ``GET /stock/{sku}``, ``POST /stock/{sku}/reservations``."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from isthmus.demo.shop.answer import body_of, health, integer_of, not_found
from isthmus.demo.shop.seen import seen


@dataclass(slots=True)
class Shelf:
    """One article. ``price_cents`` in euro cents."""

    sku: str
    name: str
    price_cents: int
    available: int


def _shelves() -> dict[str, Shelf]:
    articles = (
        Shelf("tea-sencha", "Sencha, 100 g", 1190, 40),
        Shelf("tea-assam", "Assam, 250 g", 1450, 25),
        Shelf("kettle-08", "Kettle, 0.8 l", 4900, 6),
        Shelf("cup-blue", "Cup, blue glaze", 1800, 0),
    )
    return {shelf.sku: shelf for shelf in articles}


def build_app() -> Starlette:
    shelves = _shelves()

    def answer(request: Request, shelf: Shelf, status: int = 200) -> Response:
        body = {
            "sku": shelf.sku,
            "name": shelf.name,
            "price_cents": shelf.price_cents,
            "available": shelf.available,
            "hop": seen(request.headers).as_json("inventory"),
        }
        return JSONResponse(body, status)

    async def stock(request: Request) -> Response:
        shelf = shelves.get(request.path_params["sku"])
        return not_found("no such article") if shelf is None else answer(request, shelf)

    async def reserve(request: Request) -> Response:
        shelf = shelves.get(request.path_params["sku"])
        if shelf is None:
            return not_found("no such article")
        quantity = integer_of(await body_of(request), "quantity")
        if quantity > shelf.available:
            return JSONResponse({"error": f"only {shelf.available} of {shelf.sku} are left"}, 409)
        shelf.available -= quantity
        return answer(request, shelf, 201)

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/stock/{sku}", stock),
            Route("/stock/{sku}/reservations", reserve, methods=["POST"]),
        ]
    )
