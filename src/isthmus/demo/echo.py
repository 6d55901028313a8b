"""``python -m isthmus.demo.echo``: answers every request with what arrived of it. For the examples.

``PORT``: where on 127.0.0.1; ``NAME``: what it calls itself.
"""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from isthmus.demo.serving import port_from_environment, serve

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def build_app(name: str) -> Starlette:
    """Tokens are shown as ``[token]``: what is printed on terminals gets copied."""

    async def echo(request: Request) -> Response:
        headers = {key: _shown(key, value) for key, value in request.headers.items()}
        return JSONResponse({"name": name, "method": request.method, "path": request.url.path, "headers": headers})

    return Starlette(routes=[Route("/{path:path}", echo, methods=_METHODS)])


def _shown(key: str, value: str) -> str:
    return "[token]" if key == "authorization" else value


def main() -> None:
    serve(build_app(os.environ.get("NAME", "echo")), port_from_environment())


if __name__ == "__main__":
    main()
