"""``isthmus ca revoke``: an identity, or a single certificate, that is refused from now on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from isthmus.cli.authority import authority_of
from isthmus.cli.option import DEFAULT_STATE, State
from isthmus.errors import Refused, SvidInvalid
from isthmus.identity.revoked import Reason, parse_serial
from isthmus.identity.validate import peer_identity


def revoke(
    which: Annotated[
        str | None, typer.Argument(metavar="SPIFFE_ID|FILE", help="An identity, or a certificate of it.")
    ] = None,
    serial: Annotated[
        str | None,
        typer.Option("--serial", metavar="HEX|FILE", help="One certificate, by its serial number, and no other."),
    ] = None,
    reason: Annotated[
        Reason | None, typer.Option("--reason", help="Of --serial: what the list says; else that nobody said.")
    ] = None,
    take_back: Annotated[bool, typer.Option("--take-back", help="Let it be good again.")] = False,
    state: State = DEFAULT_STATE,
) -> int:
    """Refuse an identity at once: nothing is signed for it, and every proxy refuses what it holds.

    Its next request is refused on standing connections too; callers connect to it no more.

    With --serial a single certificate instead, by the authority's list (CRL): handshakes refuse it, standing
    connections end. Its identity stays good, and is given new ones. Only certificateHold can be taken back;
    revoked again for another reason, it no longer can.

    Examples:

        isthmus ca revoke spiffe://cluster.local/ns/shop/sa/orders

        isthmus ca revoke stolen.pem

        isthmus ca revoke --serial stolen.pem --reason keyCompromise
    """
    if (which is None) == (serial is None):
        raise typer.BadParameter("one of SPIFFE_ID, FILE and --serial")
    if reason is not None and (serial is None or take_back):
        raise typer.BadParameter("--reason is of --serial, and not of --take-back")
    if serial is not None:
        number = f"{_serial(serial):x}"
        with authority_of(state) as authority:
            authority.revoke_certificate(number, reason or Reason.UNSPECIFIED, take_back=take_back)
        typer.echo(f"the certificate {number} is {'good again' if take_back else 'revoked'}", err=True)
        return 0
    assert which is not None, "the one or the other"
    with authority_of(state) as authority:
        identity = which if which.startswith("spiffe://") else _identity_in(Path(which))
        authority.revoke(identity, take_back=take_back)
    typer.echo(f"{identity} is {'good again' if take_back else 'revoked'}", err=True)
    return 0


def _serial(which: str) -> int:
    """Of a certificate's file, or said itself."""
    if not Path(which).is_file():
        return parse_serial(which)
    try:
        return x509.load_pem_x509_certificate(Path(which).read_bytes()).serial_number
    except OSError as failed:
        raise Refused(f"{which}: {failed.strerror}") from failed
    except ValueError:
        raise Refused(f"{which}: not a certificate in PEM") from None


def _identity_in(file: Path) -> str:
    try:
        return peer_identity(file.read_bytes()).uri
    except FileNotFoundError as failed:
        raise Refused(f"{file}: neither a SPIFFE ID nor a file (a serial number: --serial)") from failed
    except OSError as failed:
        raise Refused(f"{file}: {failed.strerror}") from failed
    except SvidInvalid as failed:
        raise Refused(f"{file}: {failed}") from failed
