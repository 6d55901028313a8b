"""``isthmus token``: development tokens for any issuer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from isthmus.cli.option import DEFAULT_STATE, State
from isthmus.config.decode import parse_duration
from isthmus.jwks.signing import mint, parse_claim, public_key_set
from isthmus.jwks.store import load_signing_key
from isthmus.state import StateDir


def token(
    issuer: Annotated[str | None, typer.Option("--issuer", metavar="URL", help="The iss claim.")] = None,
    subject: Annotated[str, typer.Option("--sub", metavar="S", help="The sub claim.")] = "developer",
    audience: Annotated[list[str] | None, typer.Option("--aud", metavar="A", help="An audience; repeatable.")] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option("--claim", metavar="K=V", help="Another claim; V is JSON if it parses as such, else text."),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="D", help="How long it is valid; may be negative.")
    ] = "1h",
    jwks: Annotated[
        bool, typer.Option("--jwks", help="Print the public keys instead, for --jwks ISSUER=FILE.")
    ] = False,
    state: State = DEFAULT_STATE,
) -> int:
    """Print a token signed with the development key of the state directory.

    Examples:

        isthmus token --jwks > dev-jwks.json

        isthmus up shop/ --jwks https://auth.example.com=dev-jwks.json

        isthmus token --issuer https://auth.example.com --sub alice --claim role=api-user --expires 10m
    """
    key = load_signing_key(StateDir.at(state).open().path / "tokens")
    if jwks:
        typer.echo(public_key_set(key).text)
        return 0
    if issuer is None:
        raise typer.BadParameter("is required", param_hint="--issuer")
    lifetime = parse_duration(expires.removeprefix("-"))
    if lifetime is None:
        raise typer.BadParameter(f'"{expires}" is not a duration (such as 1h)', param_hint="--expires")
    try:
        claims = dict(parse_claim(written) for written in claim or ())
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong), param_hint="--claim") from None
    lifetime = -lifetime if expires.startswith("-") else lifetime
    typer.echo(
        mint(
            key,
            issuer=issuer,
            subject=subject,
            audiences=tuple(audience or ()),
            claims=claims,
            expires_in=lifetime,
            now=datetime.now(UTC),
        )
    )
    return 0
