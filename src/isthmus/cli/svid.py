"""``isthmus svid``: what the Workload API gives to this very process, for people and scripts."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from isthmus.cli.option import DEFAULT_STATE, Format, Output, State
from isthmus.errors import NotEnrolled, Refused, Unreachable
from isthmus.identity.jwt_svid import read_unverified
from isthmus.proxy.workload_api.client import certificates_in, jwt_svids, x509_svids
from isthmus.proxy.workload_api.socket_file import socket_path
from isthmus.state import StateDir

app = typer.Typer(
    name="svid",
    help="What the SPIFFE Workload API gives to who asks: your shell's identity, if a registration describes it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)
T = TypeVar("T")
_LINK = "workload.sock"
_SECONDS = 20.0
Socket = Annotated[
    str | None,
    typer.Option(
        "--socket", metavar="unix:///PATH", help="By default that of --state.", envvar="SPIFFE_ENDPOINT_SOCKET"
    ),
]


@app.command("x509")
def x509_(
    write: Annotated[
        Path | None, typer.Option("--write", metavar="DIR", help="Write svid.N.pem, svid.N.key and bundle.N.pem there.")
    ] = None,
    socket: Socket = None,
    output: Output = Format.TEXT,
    state: State = DEFAULT_STATE,
) -> int:
    """Fetch X.509-SVIDs.

    Examples:

        isthmus svid x509

        isthmus svid x509 --write . && openssl verify -CAfile bundle.0.pem -untrusted svid.0.pem svid.0.pem
    """
    response = _ask(_first(_socket(socket, state)))
    if write is not None:
        for number, svid in enumerate(response.svids):
            _write(write, number, svid)
    found = [_described(svid) for svid in response.svids]
    if output is Format.JSON:
        typer.echo(json.dumps(found, indent=2))
    else:
        for one in found:
            hint = f" ({one['hint']})" if one["hint"] else ""
            typer.echo(f"{one['spiffe_id']}{hint}: until {one['expires']}")
    return 0


@app.command("jwt")
def jwt(
    audience: Annotated[list[str], typer.Option("--audience", metavar="A", help="Whom it is for; repeatable.")],
    spiffe_id: Annotated[str, typer.Option("--spiffe-id", metavar="ID", help="One of several identities.")] = "",
    socket: Socket = None,
    output: Output = Format.TEXT,
    state: State = DEFAULT_STATE,
) -> int:
    """Fetch a JWT-SVID and print it.

    Examples:

        isthmus svid jwt --audience https://vault.example.com

        isthmus run -n shop --service-account orders -- isthmus svid jwt --audience payments
    """
    response = _ask(jwt_svids(_socket(socket, state), audience, spiffe_id))
    if output is Format.JSON:
        found = [
            {"spiffe_id": one.spiffe_id, "expires": read_unverified(one.svid).expires.isoformat(), "svid": one.svid}
            for one in response.svids
        ]
        typer.echo(json.dumps(found, indent=2))
    else:
        typer.echo(response.svids[0].svid)
    return 0


def _socket(written: str | None, state: Path) -> Path:
    if written is not None:
        return socket_path(written)
    try:
        # Not the link: its own path may be too long for a socket's.
        return (StateDir.at(state).path / _LINK).readlink()
    except OSError:
        raise Unreachable(f"no `isthmus up` runs with the state {state}: name another, or a --socket") from None


def _ask(asking: Coroutine[Any, Any, T]) -> T:
    async def ask() -> T:
        try:
            return await asyncio.wait_for(asking, _SECONDS)
        except TimeoutError:
            raise Unreachable(f"the Workload API has not answered in {_SECONDS:g} s") from None

    try:
        return asyncio.run(ask())
    except NotEnrolled as nobody:
        raise Refused(f"{nobody}: no WorkloadRegistration describes this process") from nobody


async def _first(socket: Path) -> Any:
    async with aclosing(x509_svids(socket)) as responses:
        async for response in responses:
            return response
    raise Unreachable(f"{socket}: the Workload API has given nothing")


def _described(svid: Any) -> dict[str, str]:
    leaf = certificates_in(svid.x509_svid)[0]
    return {"spiffe_id": svid.spiffe_id, "hint": svid.hint, "expires": leaf.not_valid_after_utc.isoformat()}


def _write(folder: Path, number: int, svid: Any) -> None:
    key = load_der_private_key(svid.x509_svid_key, None)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, content, mode in (
        (f"svid.{number}.pem", _pem(svid.x509_svid), 0o644),
        (f"svid.{number}.key", private, 0o600),
        (f"bundle.{number}.pem", _pem(svid.bundle), 0o644),
    ):
        try:
            # Anew, so that the mode is ours from the first byte on.
            (folder / name).unlink(missing_ok=True)
            with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
        except OSError as failed:
            raise Refused(f"{folder / name}: {failed.strerror}") from None


def _pem(concatenated: bytes) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates_in(concatenated))
