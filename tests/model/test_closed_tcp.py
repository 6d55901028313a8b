from __future__ import annotations

from isthmus.model.attachment import Attachment
from isthmus.model.client_authentication import ClientAuthentication
from isthmus.model.closed_tcp import CLOSING_KINDS, closes_tcp
from isthmus.model.mesh import Policies
from tests.xds.making import origin


def test_a_credential_that_nobody_needs_closes_nothing() -> None:
    needed, spared = (
        ClientAuthentication("it", "shop", Attachment(), required, origin()) for required in (True, False)
    )
    assert closes_tcp(needed)
    assert not closes_tcp(spared)


def test_the_kinds_are_fields_of_the_policies() -> None:
    assert all(hasattr(Policies(), kind) for kind in CLOSING_KINDS)


def test_beside_a_login_a_credential_is_always_needed() -> None:
    assert closes_tcp(ClientAuthentication("it", "shop", Attachment(), False, origin(), oidc=(object(),)))
