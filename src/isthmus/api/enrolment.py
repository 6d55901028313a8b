"""Where another machine shows its join token: HTTPS, without a client's certificate, since it has none yet."""

from __future__ import annotations

import json
import logging
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from isthmus.errors import IsthmusError, Refused, VerificationFailed

_LARGEST_BODY = 64 << 10
_log = logging.getLogger(__name__)


class Admission(Protocol):
    """Who lets machines in."""

    def roots(self) -> str:
        """The mesh's roots, PEM."""

    def enrol(self, token: str, csr: str, peer: str) -> tuple[str, ...]:
        """The node's certificate, leaf first, roots last. Raises VerificationFailed or Refused, with the reason."""


def build_enrolment(admission: Admission) -> Starlette:
    """``GET /v1/roots``: what a token's pin is compared with. ``POST /v1/enrol`` {token, csr}: {chain}."""

    async def roots(_: Request) -> Response:
        return PlainTextResponse(admission.roots(), media_type="application/x-pem-file")

    async def enrol(request: Request) -> Response:
        peer = request.client.host if request.client is not None else "?"
        try:
            body = json.loads(await _body(request))
            token, csr = body["token"], body["csr"]
            if not isinstance(token, str) or not isinstance(csr, str):
                raise TypeError("texts are wanted")
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": "the body is not {token, csr}"}, status_code=400)
        try:
            return JSONResponse({"chain": list(admission.enrol(token, csr, peer))})
        except (VerificationFailed, Refused) as refused:
            _log.warning("a machine at %s may not join: %s", peer, refused)
            return JSONResponse({"error": str(refused)}, status_code=403)
        except IsthmusError as failed:
            _log.error("a machine at %s could not join: %s", peer, failed)
            return JSONResponse({"error": "the control plane failed"}, status_code=500)

    return Starlette(routes=[Route("/v1/roots", roots), Route("/v1/enrol", enrol, methods=["POST"])])


async def _body(request: Request) -> bytes:
    """Raises ValueError beyond 64 KiB."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_BODY:
            raise ValueError("too large")
    return body
