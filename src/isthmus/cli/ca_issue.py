"""``isthmus ca issue``: a certificate to files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.authority import authority_of
from isthmus.cli.option import DEFAULT_STATE, State
from isthmus.config.decode import parse_duration
from isthmus.errors import Refused
from isthmus.identity.authority import MAX_TTL, MIN_TTL
from isthmus.proxy.credential import request_for_hosts, request_for_identity


def issue(
    spiffe_id: Annotated[
        str | None, typer.Option("--spiffe-id", metavar="ID", help="A workload's identity: an X.509-SVID.")
    ] = None,
    dns: Annotated[
        list[str] | None, typer.Option("--dns", metavar="NAME", help="A server's name; may be said again.")
    ] = None,
    ttl: Annotated[str, typer.Option("--ttl", metavar="D", help="10s to 2160h; cut where the authority ends.")] = "1h",
    csr: Annotated[
        Path | None, typer.Option("--csr", metavar="FILE", help="Sign this request instead of making a key.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")] = Path("."),
    state: State = DEFAULT_STATE,
) -> int:
    """Issue an SVID or a server's certificate: ``tls.crt`` (chain), ``tls.key`` (0600) and ``ca.crt`` (what to trust).

    Names come from the options alone, never from the request.

    Examples:

        isthmus ca issue --spiffe-id spiffe://cluster.local/ns/shop/sa/batch --out batch/

        isthmus ca issue --dns db.example.com --ttl 24h --csr db.csr --out db/
    """
    names = tuple(dns or ())
    if (spiffe_id is None) == (not names):
        raise typer.BadParameter("--spiffe-id ID, or --dns NAME")
    life = parse_duration(ttl)
    if life is None or not MIN_TTL <= life <= MAX_TTL:
        raise typer.BadParameter(f'"{ttl}" is not a duration of 10s to 2160h', param_hint="--ttl")
    seconds = int(life.total_seconds())
    key: bytes | None = None
    if csr is None:
        made = request_for_identity(spiffe_id) if spiffe_id is not None else request_for_hosts(names)
        key, request = made.key_pem, made.csr_pem
    else:
        request = _read(csr)
    with authority_of(state) as authority:
        *chain, roots = authority.issue(request, spiffe_id, list(names), seconds)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if key is not None:
            _write_key(out / "tls.key", key)
        (out / "tls.crt").write_text("".join(chain))
        (out / "ca.crt").write_text(roots)
    except OSError as failed:
        raise Refused(f"{failed.filename}: {failed.strerror}") from failed
    written = ("tls.crt", *(("tls.key",) if key is not None else ()), "ca.crt")
    typer.echo(f"written: {', '.join(str(out / name) for name in written)}", err=True)
    return 0


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as failed:
        raise Refused(f"{file}: {getattr(failed, 'strerror', None) or 'not a request in PEM'}") from failed


def _write_key(file: Path, key: bytes) -> None:
    """Never readable by others, not even for a moment, whatever was there before."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(key)
