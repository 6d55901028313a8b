"""The certificate authority over the private API: what ``isthmus ca`` asks of a running control plane."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from isthmus.errors import Refused, VerificationFailed


class CertificateAuthority(Protocol):
    """What these requests are of. Each raises Refused or VerificationFailed, with the reason."""

    def shown(self) -> dict[str, Any]:
        """What it trusts and signs with, which nodes have not taken it yet, and who is revoked."""

    def rotate(self, what: str, *, force: bool) -> None:
        """``prepare``, ``activate``, ``revoke-old`` (of the root), or ``intermediate``."""

    def issue(self, csr: str, spiffe_id: str | None, dns_names: list[str], ttl_seconds: int) -> list[str]:
        """Sign a request (PEM): the chain, leaf first, and all roots as the last element."""

    def revoke(self, spiffe_id: str, *, take_back: bool) -> None:
        """Refuse an identity from now on, or no more."""

    def revoke_certificate(self, serial: str, reason: str, *, take_back: bool) -> None:
        """Refuse one certificate from now on, by its serial number (hexadecimal); ``reason``: RFC 5280's name of it."""

    def lists(self) -> list[dict[str, Any]]:
        """What was revoked of single certificates, as the authority's lists (CRL) say it."""


def authority_routes(authority: CertificateAuthority) -> list[Route]:
    """For the private socket alone."""

    async def show(request: Request) -> Response:
        return JSONResponse(authority.shown())

    async def rotate(body: dict[str, Any]) -> Response:
        authority.rotate(str(body["what"]), force=bool(body.get("force", False)))
        return JSONResponse(authority.shown())

    async def issue(body: dict[str, Any]) -> Response:
        names = [str(name) for name in body.get("dns_names", ())]
        chain = authority.issue(str(body["csr"]), body.get("spiffe_id"), names, int(body["ttl_seconds"]))
        return JSONResponse({"chain": chain})

    async def revoke(body: dict[str, Any]) -> Response:
        take_back = bool(body.get("take_back", False))
        if "serial" in body:
            reason = str(body.get("reason", "unspecified"))
            authority.revoke_certificate(str(body["serial"]), reason, take_back=take_back)
        else:
            authority.revoke(str(body["spiffe_id"]), take_back=take_back)
        return JSONResponse(authority.shown())

    async def lists(_: Request) -> Response:
        return JSONResponse({"lists": authority.lists()})

    return [
        Route("/v1/ca", show),
        Route("/v1/ca/crl", lists),
        *(
            Route(f"/v1/ca/{name}", _posted(answer), methods=["POST"])
            for name, answer in (("rotate", rotate), ("issue", issue), ("revoke", revoke))
        ),
    ]


def _posted(
    answer: Callable[[dict[str, Any]], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def post(request: Request) -> Response:
        try:
            return await answer(await request.json())
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": "the body is none of this API's"}, status_code=400)
        except (Refused, VerificationFailed) as refused:
            return JSONResponse({"error": str(refused)}, status_code=409)

    return post
