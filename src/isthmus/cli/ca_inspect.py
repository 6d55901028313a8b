"""``isthmus ca inspect``: what a certificate says, in plain words."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509

from isthmus.cli.authority import now
from isthmus.cli.exit import EXIT_USER
from isthmus.cli.option import DEFAULT_STATE, Format, Output, State
from isthmus.cli.report import print_json
from isthmus.errors import EnvoyFailed, Refused, StateUnusable
from isthmus.identity.describe import Description, describe, validity
from isthmus.identity.revoked import RevokedCertificate, read_revoked_certificates
from isthmus.proxy.envoy import AdminClient
from isthmus.proxy.place import Folders
from isthmus.state import StateDir, is_state

_SECONDS = 10.0
_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:]+)\]|(?P<host>[^:/\[\]]+)):(?P<port>\d+)")


def inspect(
    what: Annotated[str, typer.Argument(metavar="FILE|HOST:PORT|PROXY", help="A PEM file, a server, or a proxy's id.")],
    sni: Annotated[str | None, typer.Option("--sni", metavar="NAME", help="The server's name to ask for.")] = None,
    state: State = DEFAULT_STATE,
    output: Output = Format.TEXT,
) -> int:
    """Say who a certificate is for, by whom, for what and how long. Nothing is verified: `isthmus doctor tls` does.

    Examples:

        isthmus ca inspect tls.crt

        isthmus ca inspect 127.0.0.1:8443 --sni shop.example.com

        isthmus ca inspect gateway~shop~edge
    """
    if Path(what).is_dir():
        raise Refused(f"{what}: a folder; name a file of it")
    if Path(what).is_file():
        found = _of_file(Path(what))
    elif address := _ADDRESS.fullmatch(what):
        found = _of_server(address["six"] or address["host"], int(address["port"]), sni)
    elif "~" in what:
        return _show_proxy(what, state, output)
    else:
        raise Refused(f"{what}: no such file, no HOST:PORT and no proxy's id (isthmus proxies)")
    described = [describe(one) for one in found]
    revoked = _revoked(state)
    if output is Format.JSON:
        print_json([{**one.as_json(), "validity": validity(one, now()), **_told(one, revoked)} for one in described])
    else:
        typer.echo("\n\n".join("\n".join(_lines(one, revoked)) for one in described))
    bad = any(not one.not_before <= now() < one.not_after or one.serial in revoked for one in described)
    return EXIT_USER if bad else 0


def _revoked(state: Path) -> Mapping[str, RevokedCertificate]:
    """By serial number: what the authority of this state has revoked."""
    if not is_state(state):
        return {}
    return {f"{one.serial:x}": one for one in read_revoked_certificates(StateDir.at(state))}


def _told(one: Description, revoked: Mapping[str, RevokedCertificate]) -> dict[str, str | None]:
    return {"revoked": _since(revoked.get(one.serial))}


def _since(entry: RevokedCertificate | None) -> str | None:
    return entry.at.isoformat() if entry is not None else None


def _lines(found: Description, revoked: Mapping[str, RevokedCertificate]) -> Sequence[str]:
    kind = "an authority's" if found.authority else f"for {' and '.join(found.uses) or 'any use'}"
    entry = revoked.get(found.serial)
    since = (f"revoked   since {entry.at:%Y-%m-%d %H:%M}Z ({entry.reason})",) if entry is not None else ()
    return (
        f"subject   {found.subject or '(empty)'}",
        f"names     {', '.join(found.names) or '(none)'}",
        f"issuer    {found.issuer or '(empty)'}",
        f"kind      {kind}, {found.key}",
        f"validity  {validity(found, now())} ({found.not_before:%Y-%m-%d %H:%M}Z to {found.not_after:%Y-%m-%d %H:%M}Z)",
        f"serial    {found.serial}",
        f"sha256    {found.sha256}",
        *since,
    )


def _of_file(file: Path) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as failed:
        raise Refused(f"{file}: {failed.strerror}") from failed
    except ValueError:
        raise Refused(f"{file}: not a certificate in PEM") from None


def _of_server(host: str, port: int, sni: str | None) -> Sequence[x509.Certificate]:
    """What the server shows; one that then wants a certificate of ours has shown its own already."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), _SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=sni or host) as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
    except OSError as failed:
        why = getattr(failed, "reason", None) or failed.strerror or str(failed)
        unnamed = "" if sni else "; with --sni NAME, if it goes by the name that is asked for"
        more = f"isthmus doctor tls {host}:{port} says more{unnamed}"
        raise Refused(f"{host}:{port}: no TLS handshake: {why} ({more})") from failed
    return [x509.load_der_x509_certificate(shown or b"")]


def _show_proxy(proxy: str, state: Path, output: Format) -> int:
    """What an Envoy of this machine holds now, as its admin interface tells, and what of it is revoked."""
    kept = StateDir.at(state)
    try:
        socket_file = Folders(kept.path, kept.runtime).admin_socket(proxy)
    except StateUnusable:
        socket_file = None
    if socket_file is None or not socket_file.exists():
        raise Refused(f"{proxy}: no Envoy of that id runs on this machine with the state {state} (isthmus proxies)")
    admin = AdminClient(socket_file)
    try:
        held = asyncio.run(admin.certificates())
    except EnvoyFailed as failed:
        raise Refused(f"{proxy}: {failed}") from failed
    revoked = _revoked(state)
    listed: list[dict[str, Any]] = [
        {
            "store": store,
            "serial": one.serial_number,
            "names": [name.uri or name.dns or name.ip_address for name in one.subject_alt_names],
            "not_after": one.expiration_time.ToJsonString(),
            "revoked": _since(revoked.get(one.serial_number.lstrip("0"))),
        }
        for certificate in held.certificates
        for store, ones in (("certificate", certificate.cert_chain), ("roots", certificate.ca_cert))
        for one in ones
    ]
    unique = [one for index, one in enumerate(listed) if one not in listed[:index]]
    if output is Format.JSON:
        print_json(unique)
    else:
        typer.echo("\n".join(_held_line(one) for one in unique))
    bad = any(one["revoked"] or datetime.fromisoformat(one["not_after"]) <= now() for one in unique)
    return EXIT_USER if bad else 0


def _held_line(one: dict[str, Any]) -> str:
    names = ", ".join(one["names"]) or "(no names)"
    revoked = f"  REVOKED since {datetime.fromisoformat(one['revoked']):%Y-%m-%d %H:%M}Z" if one["revoked"] else ""
    return f"{one['store']:12} {names}  until {one['not_after']}  {one['serial']}{revoked}"
