"""``users``: the customers' names and addresses. ``GET /users/{id}``."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from isthmus.demo.accounts import PEOPLE
from isthmus.demo.shop.answer import health, not_found
from isthmus.demo.shop.seen import seen


@dataclass(frozen=True, slots=True)
class User:
    id: str
    name: str
    email: str
    city: str


_CITIES = {"alice": "Lyon", "bob": "Malmö", "admin": "Trieste"}


def build_app() -> Starlette:
    users = {
        account.name: User(account.name, account.full_name, f"{account.name}@example.com", _CITIES[account.name])
        for account in PEOPLE
    }

    async def user(request: Request) -> Response:
        found = users.get(request.path_params["id"])
        if found is None:
            return not_found("no such user")
        return JSONResponse({**asdict(found), "hop": seen(request.headers).as_json("users")})

    return Starlette(routes=[Route("/health", health), Route("/users/{id}", user)])
