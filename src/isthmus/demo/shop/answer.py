"""What the three services answer and read alike."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

_MOST = 1000


async def health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def not_found(reason: str) -> Response:
    return JSONResponse({"error": reason}, 404)


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object of a request. Raises HTTPException 400."""
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise HTTPException(400, "a JSON object is expected")
    return body


def integer_of(body: dict[str, Any], name: str) -> int:
    """A number from 1 to 1000; 1 without the field. Raises HTTPException 400."""
    value = body.get(name, 1)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST:
        raise HTTPException(400, f"{name} is a number from 1 to {_MOST}")
    return value
