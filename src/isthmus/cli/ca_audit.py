"""``isthmus ca audit``: every trust store and certificate, what expires, what nothing uses."""

from __future__ import annotations

from collections.abc import Set
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509

from isthmus.cli.authority import authority_of, now
from isthmus.cli.exit import EXIT_USER
from isthmus.cli.option import DEFAULT_STATE, Format, Output, State
from isthmus.cli.report import print_json
from isthmus.identity.describe import describe, words


def audit(
    within: Annotated[
        int, typer.Option("--within", metavar="DAYS", help="What ends within so many days is said.")
    ] = 30,
    state: State = DEFAULT_STATE,
    output: Output = Format.TEXT,
) -> int:
    """List what each trust store holds, what ends soon, what nothing uses, and what is revoked.

    Exit 1 if a certificate in a trust store has ended or is revoked.

    Without a running control plane: the authority of the state alone.

    Example:

        isthmus ca audit --within 14
    """
    with authority_of(state) as authority:
        shown = authority.shown()
    revoked = {one["serial"] for one in shown["revoked_certificates"]}
    rows = [_row(store, one, within, revoked) for store in _stores(shown) for one in _certificates(store)]
    if output is Format.JSON:
        told = {name: shown[name] for name in ("revoked", "revoked_certificates", "behind")}
        print_json({"certificates": rows, **told})
    else:
        for row in rows:
            typer.echo(_line(row))
        for one in shown["revoked"]:
            typer.echo(f"revoked: {one['spiffe_id']} since {datetime.fromisoformat(one['at']):%Y-%m-%d %H:%M}Z")
        for one in shown["revoked_certificates"]:
            since, until = (f"{datetime.fromisoformat(one[name]):%Y-%m-%d %H:%M}Z" for name in ("at", "until"))
            typer.echo(f"revoked certificate: {one['serial']} since {since} ({one['reason']}), listed until {until}")
        for node in shown["behind"]:
            typer.echo(f"not every root is trusted yet by: {node}")
    return EXIT_USER if any(row["state"] in ("ended", "revoked") for row in rows) else 0


def _stores(shown: dict[str, Any]) -> list[dict[str, Any]]:
    everyone = ["every proxy"]
    roots = [
        {"name": f"mesh root ({root['role']})", "kind": "roots", "used_by": everyone, "certificates": [root]}
        for root in shown["roots"]
    ]
    signing = {"name": "mesh signing", "kind": "certificate", "used_by": everyone, "certificates": shown["signing"]}
    return [*roots, signing, *shown["stores"]]


def _certificates(store: dict[str, Any]) -> list[dict[str, Any]]:
    """A file of this machine is read here: the control plane names it only."""
    if "path" not in store:
        found: list[dict[str, Any]] = store["certificates"]
        return found
    try:
        return [describe(one).as_json() for one in x509.load_pem_x509_certificates(Path(store["path"]).read_bytes())]
    except (OSError, ValueError):
        return []


def _row(store: dict[str, Any], certificate: dict[str, Any], within: int, revoked: Set[str]) -> dict[str, Any]:
    ends = datetime.fromisoformat(certificate["not_after"])
    state = "good"
    if certificate["serial"] in revoked:
        state = "revoked"
    elif ends <= now():
        state = "ended"
    elif ends <= now() + timedelta(days=within):
        state = "ends soon"
    return {
        "store": store["name"],
        "kind": store["kind"],
        "subject": certificate["subject"],
        "names": certificate["names"],
        "serial": certificate["serial"],
        "not_after": certificate["not_after"],
        "state": state,
        "used_by": store["used_by"],
    }


def _line(row: dict[str, Any]) -> str:
    left = datetime.fromisoformat(row["not_after"]) - now()
    when = f"ended {words(-left)} ago" if row["state"] == "ended" else f"ends in {words(left)}"
    used = "" if row["used_by"] else "; nothing uses it"
    loud = {"ended": "ENDED", "ends soon": "SOON", "revoked": "REVOKED"}.get(row["state"], "")
    # Roots of one mesh have one name: the serial number tells them apart.
    who = f"{', '.join(row['names']) or row['subject']} ({row['serial'][:8]})"
    return f"{loud:8}{row['store']}: {who}: {when}{used}"
