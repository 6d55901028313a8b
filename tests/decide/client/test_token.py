from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from isthmus.decide.client.bound import thumbprint
from isthmus.decide.client.introspection import Introspection, Provider
from isthmus.decide.client.outcome import Refused, Verified
from isthmus.decide.client.question import Question
from isthmus.decide.client.token import Tokens
from isthmus.model.client_authentication import Accepted, ApiKeyMethod
from tests.real.pki import Authority

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ISSUER, OTHER = "https://idp.example.com", "https://other.example.com"
CERTIFICATE = quote(Authority("clients").issue("client.example.com").chain.decode())
BOUND = {"x5t#S256": thumbprint(CERTIFICATE)}
PROVIDER = Provider(
    OTHER, f"{OTHER}/introspect", "shop", "s", "client_secret_post", (), timedelta(0), timedelta(seconds=2)
)


class Endpoint:
    """Knows some tokens."""

    known: Mapping[str, dict[str, Any]] = {
        "good": {"active": True, "sub": "alice"},
        "bound": {"active": True, "sub": "alice", "cnf": BOUND},
        "proof": {"active": True, "sub": "alice", "cnf": {"jkt": "x"}},
    }

    async def introspect(self, provider: Provider, token: str) -> bytes:
        return json.dumps(self.known.get(token, {"active": False})).encode()


TOKENS = Tokens(Introspection(Endpoint(), {"p": PROVIDER}))


def jwt(**claims: Any) -> str:
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": "x"}, claims)
    )
    return f"{head}.{body}.signature"


async def asked(
    accepted: Accepted,
    *authorization: str,
    token: dict[str, Any] | None = None,
    certificate: str = "",
    failure: str = "",
    login: str | None = None,
) -> object:
    """The reason of a refusal, or how somebody was verified; None: nothing was brought."""
    question = Question(accepted, {"authorization": authorization}, "/", certificate, token, failure or None, login)
    found = await TOKENS.check(question, NOW)
    assert TOKENS.brings(question) or not isinstance(found, Verified)
    match found:
        case None:
            return None
        case Refused() as refused:
            return refused.reason
        case Verified() as verified:
            return verified.method


JWTS = Accepted(issuers=(ISSUER,))
OPAQUE = Accepted(introspection="p")
EITHER = Accepted(issuers=(ISSUER,), introspection="p")


async def test_what_envoy_verified_is_taken_of_the_routes_issuers() -> None:
    assert await asked(JWTS, token={"iss": ISSUER}) == "jwt"
    assert await asked(JWTS, token={"iss": OTHER}) == "jwt-issuer-unknown"
    assert await asked(JWTS) is None
    # Where tokens are no method they are nobody's credential, verified or not.
    assert await asked(Accepted(certificate=True), "Bearer good", token={"iss": ISSUER}) is None


async def test_opaque_tokens() -> None:
    assert await asked(OPAQUE, "Bearer good") == "introspection"
    assert await asked(OPAQUE, "bearer  good ") == "introspection"
    assert await asked(OPAQUE, "BEARER\tgood") == "introspection"
    assert await asked(OPAQUE, "Bearer") == await asked(OPAQUE, "Bearer good, Bearer good") == "token-inactive"
    assert await asked(OPAQUE, "Bearer bad") == "token-inactive"
    assert await asked(OPAQUE, "Bearer ") == "token-inactive"
    assert await asked(OPAQUE, "Basic YTpi") is None
    assert await asked(OPAQUE, "Bearer good", "Bearer good") == "credential-ambiguous"
    assert await asked(Accepted(introspection="unknown"), "Bearer good") == "introspection-unavailable"


async def test_an_api_key_is_no_token_where_keys_are_taken_there() -> None:
    beside = Accepted(introspection="p", api_key=ApiKeyMethod(headers=("authorization",)))
    for value in ("Bearer isk_x_y", "isk_x_y", "ApiKey isk_x_y"):
        assert await asked(beside, value) is None
        assert not TOKENS.brings(Question(beside, {"authorization": (value,)}))
    assert await asked(beside, "Bearer good") == "introspection"
    assert TOKENS.brings(Question(beside, {"authorization": ("isk_x_y", "Bearer good")}))
    assert await asked(OPAQUE, "Bearer isk_x_y") == "token-inactive"


async def test_side_by_side_each_is_judged_by_whoever_gave_it() -> None:
    good, ended = jwt(iss=ISSUER, sub="alice", exp=4e9), jwt(iss=ISSUER, sub="alice", exp=1)
    assert await asked(EITHER, "Bearer good") == "introspection"
    assert await asked(EITHER, token={"iss": ISSUER}) == "jwt"
    assert await asked(EITHER, f"Bearer {good}", token={"iss": ISSUER, "sub": "alice", "exp": 4e9}) == "jwt"
    assert (
        await asked(EITHER, f"Bearer {good}", token={"iss": ISSUER, "sub": "bob", "exp": 4e9}) == "credential-ambiguous"
    )
    assert await asked(EITHER, "Bearer good", token={"iss": ISSUER}) == "credential-ambiguous"
    failed = "Jwt verification fails"
    assert await asked(EITHER, f"Bearer {good}", failure=failed) == "jwt-signature-invalid"
    assert await asked(EITHER, f"Bearer {good}", failure="Jwt issuer is not configured") == "jwt-malformed"
    assert await asked(EITHER, f"Bearer {ended}", failure=failed) == "jwt-expired"
    assert await asked(EITHER, f"Bearer {jwt(iss=OTHER)}", failure=failed) == "token-inactive"
    # In another place than Authorization, where only Envoy looks.
    assert await asked(EITHER, failure=failed) == "jwt-signature-invalid"
    assert await asked(EITHER, failure="Jwt is missing") is None


async def test_bound_tokens() -> None:
    bound = Accepted(issuers=(ISSUER,), bound=(ISSUER,))
    assert await asked(bound, token={"iss": ISSUER, "cnf": BOUND}, certificate=CERTIFICATE) == "jwt"
    assert await asked(bound, token={"iss": ISSUER, "cnf": BOUND}) == "token-not-bound"
    assert await asked(bound, token={"iss": ISSUER}, certificate=CERTIFICATE) == "token-not-bound"
    opaque = Accepted(introspection="p", introspection_bound=True)
    assert await asked(opaque, "Bearer bound", certificate=CERTIFICATE) == "introspection"
    assert await asked(opaque, "Bearer good", certificate=CERTIFICATE) == "token-not-bound"


async def test_an_opaque_token_that_is_bound_is_so_everywhere() -> None:
    assert await asked(OPAQUE, "Bearer bound", certificate=CERTIFICATE) == "introspection"
    assert await asked(OPAQUE, "Bearer bound") == "token-not-bound"
    assert await asked(OPAQUE, "Bearer proof", certificate=CERTIFICATE) == "token-not-bound"


async def test_what_looks_like_a_jwt_and_is_none_is_opaque() -> None:
    for token in ("a.b.c", "a.W10.c", "a.!!.c", "..", f"a.{'x' * 5000}.c"):
        assert await asked(EITHER, f"Bearer {token}", failure="x") == "token-inactive"


async def test_a_login_takes_its_sessions_and_no_bearer_tokens_of_its_issuer() -> None:
    session = {"iss": ISSUER, "sub": "alice"}
    login = Accepted(logins=("1f",))
    assert await asked(login, token=session, login="1f") == "jwt"
    assert await asked(login, token=session, login="another") == "jwt-issuer-unknown"
    assert await asked(login, f"Bearer {jwt(**session)}", token=session) is None, "as if nothing were brought"
    beside = Accepted(logins=("1f",), issuers=(OTHER,))
    assert await asked(beside, token=session, login="1f") == "jwt"
    assert await asked(beside, token=session) == "jwt-issuer-unknown"
    assert await asked(beside, token={"iss": OTHER}) == "jwt"


async def test_an_issuer_takes_tokens_and_no_sessions_of_logins_there() -> None:
    session = {"iss": ISSUER, "sub": "alice"}
    assert await asked(Accepted(issuers=(ISSUER,)), token=session) == "jwt"
    assert await asked(Accepted(issuers=(ISSUER,)), token=session, login="1f") is None


async def test_a_session_needs_no_certificate_where_tokens_do() -> None:
    accepted = Accepted(logins=("1f",), issuers=(ISSUER,), bound=(ISSUER,))
    session = {"iss": ISSUER, "sub": "alice"}
    assert await asked(accepted, token=session, login="1f") == "jwt"
    assert await asked(accepted, token=session) == "token-not-bound"
