from __future__ import annotations

from isthmus.envoy_api import unpack
from isthmus.filters.challenge import CHALLENGE, Challenge


def test_only_what_says_nothing_itself_gets_a_challenge() -> None:
    (message,) = CHALLENGE.build(Challenge())
    (mutation,) = unpack(message.typed_config).mutations.response_mutations
    assert mutation.append.header.key == "www-authenticate"
    assert "jwt_authn_access_denied" in mutation.append.header.value
    assert mutation.append.append_action == mutation.append.ADD_IF_ABSENT
