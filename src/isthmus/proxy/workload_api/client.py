"""The caller's side of the Workload API, of our agent or of anybody's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from isthmus.errors import NotEnrolled, Refused, Unreachable
from isthmus.identity.workload_wire import HEADER, SERVICE, message


async def x509_svids(socket: Path) -> AsyncGenerator[Any, None]:
    """Every X509SVIDResponse, for as long as the server sends them. Raises Unreachable, or NotEnrolled: no identity."""
    async with _channel(socket) as channel:
        names = ("FetchX509SVID", message("X509SVIDRequest"), message("X509SVIDResponse"))
        method: UnaryStreamMethod[Any, Any] = UnaryStreamMethod(channel, f"/{SERVICE}/{names[0]}", *names[1:])
        async with method.open(metadata=[HEADER]) as stream:
            await stream.send_message(names[1](), end=True)
            async for response in stream:
                yield response


async def jwt_svids(socket: Path, audiences: Sequence[str], spiffe_id: str = "") -> Any:
    """A JWTSVIDResponse: one of each identity, or of ``spiffe_id`` alone. Raises Unreachable, NotEnrolled, Refused."""
    async with _channel(socket) as channel:
        request, response = message("JWTSVIDRequest"), message("JWTSVIDResponse")
        method: UnaryUnaryMethod[Any, Any] = UnaryUnaryMethod(channel, f"/{SERVICE}/FetchJWTSVID", request, response)
        return await method(request(audience=audiences, spiffe_id=spiffe_id), metadata=[HEADER])


def certificates_in(concatenated: bytes) -> tuple[x509.Certificate, ...]:
    """DER certificates, one after the other: each begins with its own length (X.690, 8.1.3). Raises ValueError."""
    found = []
    while concatenated:
        if len(concatenated) < 2:
            raise ValueError("not certificates in DER")
        begins, length = 2, concatenated[1]
        if length & 0x80:
            begins += length & 0x7F
            length = int.from_bytes(concatenated[2:begins])
        found.append(x509.load_der_x509_certificate(concatenated[: begins + length]))
        concatenated = concatenated[begins + length :]
    return tuple(found)


@asynccontextmanager
async def _channel(socket: Path) -> AsyncIterator[Channel]:
    channel = Channel(path=str(socket))
    try:
        yield channel
    except GRPCError as failed:
        said = failed.message or failed.status.name
        if failed.status is Status.PERMISSION_DENIED:
            raise NotEnrolled(said) from failed
        if failed.status is Status.INVALID_ARGUMENT:
            raise Refused(said) from failed
        raise Unreachable(f"{socket}: {said}") from failed
    except (OSError, StreamTerminatedError) as failed:
        raise Unreachable(f"no Workload API at {socket}: {failed}") from failed
    finally:
        channel.close()
