"""``isthmus ca bundle``: what the mesh's identities are proved by, for others to federate with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.cli.exit import EXIT_USER
from isthmus.cli.option import DEFAULT_STATE, State
from isthmus.federation.own import OWN_FILE, publish, read_published
from isthmus.identity.jwt_store import load as load_jwt_keys
from isthmus.identity.rotation import BUNDLE, ROOT
from isthmus.state import StateDir

_HINT = timedelta(minutes=5)


class BundleForm(StrEnum):
    SPIFFE = "spiffe"
    PEM = "pem"


def bundle(
    form: Annotated[
        BundleForm, typer.Option("-o", "--output", help="spiffe: a JWK Set for a FederatedTrustDomain; pem: the roots.")
    ] = BundleForm.SPIFFE,
    state: State = DEFAULT_STATE,
) -> int:
    """Print the mesh's trust bundle, as others take it who federate with the mesh: all roots, all keys of JWT-SVIDs.

    It is what `--bundle-endpoint` serves; give it to them for the first contact (`trustDomainBundle`).

    Examples:

        isthmus ca bundle > shop.example.json

        isthmus ca bundle -o pem
    """
    kept = StateDir.at(state)
    pem = kept.read(BUNDLE) or kept.read(ROOT)
    if pem is None:
        typer.echo(f"isthmus: no certificate authority in {state} yet (isthmus up makes one)", err=True)
        return EXIT_USER
    if form is BundleForm.PEM:
        typer.echo(pem.decode(), nl=False)
        return 0
    roots = tuple(one.public_bytes(Encoding.PEM).decode() for one in x509.load_pem_x509_certificates(pem))
    last = read_published(kept.read(OWN_FILE))
    found, _ = publish(roots, load_jwt_keys(kept).public, _HINT, last, datetime.now(UTC))
    typer.echo(found.to_json())
    return 0
