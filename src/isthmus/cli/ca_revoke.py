"""``isthmus ca revoke``: an identity that is refused from now on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.authority import authority_of
from isthmus.cli.option import DEFAULT_STATE, State
from isthmus.errors import Refused, SvidInvalid
from isthmus.identity.validate import peer_identity


def revoke(
    which: Annotated[str, typer.Argument(metavar="SPIFFE_ID|FILE", help="An identity, or a certificate of it.")],
    take_back: Annotated[bool, typer.Option("--take-back", help="Let it be good again.")] = False,
    state: State = DEFAULT_STATE,
) -> int:
    """Refuse an identity at once: nothing is signed for it, and every proxy refuses what it holds.

    Its next request is refused on standing connections too; callers connect to it no more.

    Examples:

        isthmus ca revoke spiffe://cluster.local/ns/shop/sa/orders

        isthmus ca revoke stolen.pem
    """
    with authority_of(state) as authority:
        identity = which if which.startswith("spiffe://") else _identity_in(Path(which))
        authority.revoke(identity, take_back=take_back)
    typer.echo(f"{identity} is {'good again' if take_back else 'revoked'}", err=True)
    return 0


def _identity_in(file: Path) -> str:
    try:
        return peer_identity(file.read_bytes()).uri
    except FileNotFoundError as failed:
        raise Refused(f"{file}: neither a SPIFFE ID nor a file; serial numbers cannot be revoked") from failed
    except OSError as failed:
        raise Refused(f"{file}: {failed.strerror}") from failed
    except SvidInvalid as failed:
        raise Refused(f"{file}: {failed}") from failed
