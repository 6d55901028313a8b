"""The authority that ``isthmus ca`` speaks to: the running control plane's, else the state's own, held meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from isthmus.api.authority import CertificateAuthority
from isthmus.api.authority_client import AuthorityClient
from isthmus.errors import Refused, Unreachable, VerificationFailed
from isthmus.identity.material import read_certificates
from isthmus.identity.rotation import ROOT
from isthmus.keeping import Keeping
from isthmus.model.settings import Settings
from isthmus.serve.authority import AuthorityKeeper
from isthmus.serve.authority_requests import AuthorityRequests
from isthmus.state import StateDir


def now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def authority_of(folder: Path) -> Iterator[CertificateAuthority]:
    """Raises Refused: there is none yet, or another process holds the state and does not answer."""
    state = StateDir.at(folder)
    client = AuthorityClient(state.api_socket)
    try:
        client.shown()
    except Unreachable:
        if state.read(ROOT) is None:
            raise Refused(f"no certificate authority in {folder} yet (isthmus up makes one)") from None
    else:
        with _refusing():
            yield client
        return
    with state.lock("ca"), _refusing():
        keeping = Keeping(state, logging.getLogger(__name__).error)
        settings = Settings(trust_domain=_trust_domain(state))
        keeper = AuthorityKeeper(state, keeping, lambda: settings, now, lambda: None, lambda: ())
        yield AuthorityRequests(keeper, state, now)


@contextmanager
def _refusing() -> Iterator[None]:
    """What is wrong with a name or a request is said in a line."""
    try:
        yield
    except VerificationFailed as wrong:
        raise Refused(str(wrong)) from wrong


def _trust_domain(state: StateDir) -> str:
    """As our own roots say it. Raises Refused: another's root does not."""
    (root, *_) = read_certificates(str(state.within(ROOT)), state.read(ROOT) or b"")
    try:
        names = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    if len(uris) != 1 or not uris[0].startswith("spiffe://"):
        raise Refused("the root does not say its trust domain: do this while `isthmus up` runs")
    return uris[0].removeprefix("spiffe://")
