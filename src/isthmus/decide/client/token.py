"""Tokens: those that Envoy has verified already, and opaque ones, whose issuer is asked."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from isthmus.decide.client.api_key import is_key
from isthmus.decide.client.bound import is_bound, is_bound_at_all
from isthmus.decide.client.introspection import BEARER, Introspection
from isthmus.decide.client.outcome import Outcome, Refused, Verified
from isthmus.decide.client.question import Question
from isthmus.model.reason_identity import TOKEN_REASONS
from isthmus.model.refusal import Details

AMBIGUOUS: Final = Refused("credential-ambiguous", 400)
NOT_BOUND: Final = Refused("token-not-bound", 401, BEARER)
_OTHER_ISSUER: Final = Refused("jwt-issuer-unknown", 401, BEARER)
_NOT_VERIFIED: Final = Refused("jwt-malformed", 401, BEARER)
_EXPIRED: Final = Refused("jwt-expired", 401, BEARER)
_MISSING: Final = "Jwt is missing"
"""What jwt_authn says where there was nothing to verify."""
_TELLING = ("iss", "sub", "exp", "jti", "client_id", "cnf")
"""What two tokens of one issuer are told apart by."""


class Tokens:
    """What becomes of a request with a token."""

    def __init__(self, introspection: Introspection) -> None:
        self._introspection = introspection

    def brings(self, question: Question) -> bool:
        """Whether the request brings a token of a kind that is taken at its route."""
        accepted = question.accepted
        return _is_taken(question) or (accepted.introspection is not None and bool(_authorizations(question)))

    async def check(self, question: Question, now: datetime) -> Outcome | None:
        """None: it brings none of a kind that is taken at its route."""
        accepted, payload = question.accepted, question.token
        given = _authorizations(question) if accepted.introspection is not None else ()
        if len(given) > 1:
            return AMBIGUOUS
        if payload is not None and (accepted.issuers if question.login is None else accepted.logins):
            return _verified(question, payload, given)
        if accepted.introspection is None:
            return None
        if not given:
            # Envoy lets bad tokens pass here, as they may be none of its issuers': that one was not for us to look at.
            return None if question.token_failure in (None, _MISSING) else _refused(question.token_failure)
        claimed = _claims(given[0])
        if claimed.get("iss") in accepted.issuers:
            # Envoy knows that issuer, and has not found the token good.
            return _EXPIRED if _has_ended(claimed, now) else _refused(question.token_failure)
        claims = await self._introspection.claims(accepted.introspection, given[0], now)
        if isinstance(claims, Refused):
            return claims
        bound = accepted.introspection_bound or is_bound_at_all(claims)
        if bound and not is_bound(claims, question.certificate):
            return NOT_BOUND
        return Verified("introspection", claims=claims)


def _verified(question: Question, payload: Mapping[str, Any], given: tuple[str, ...]) -> Outcome:
    if not _is_taken(question):
        return _OTHER_ISSUER
    if any(not _same(_claims(token), payload) for token in given):
        return AMBIGUOUS
    issuer = payload.get("iss")
    if question.login is None and issuer in question.accepted.bound and not is_bound(payload, question.certificate):
        return NOT_BOUND
    return Verified("jwt")


def _is_taken(question: Question) -> bool:
    """Whether Envoy verified a bearer token of an issuer, or a session of a login, that is a method of the route.

    A login takes no bearer tokens of its issuer, nor issuers the sessions of one: each is what was declared.
    """
    if question.token is None:
        return False
    if question.login is not None:
        return question.login in question.accepted.logins
    return question.token.get("iss") in question.accepted.issuers


def _authorizations(question: Question) -> tuple[str, ...]:
    """The tokens of ``Authorization: Bearer``; other schemes are none of ours, and API keys where they are taken."""
    keys = question.accepted.api_key
    taken = keys is not None and "authorization" in keys.headers
    given = (value for value in question.values("authorization") if not (taken and is_key(value)))
    values = (value.replace("\t", " ").strip(" ") for value in given)
    split = (value.partition(" ") for value in values)
    return tuple(token.strip() for scheme, _, token in split if scheme.lower() == BEARER.lower())


def _claims(token: str) -> Mapping[str, Any]:
    """What a JWT says of itself, unverified: good to tell tokens apart, for nothing else. Of no JWT: nothing."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _has_ended(claims: Mapping[str, Any], now: datetime) -> bool:
    ends = claims.get("exp")
    return isinstance(ends, int | float) and ends <= now.timestamp()


def _refused(failure: str | None) -> Refused:
    """``failure``: as jwt_authn words it. That it knows no such issuer, it says of every provider but the last."""
    sign = f"jwt_authn_access_denied{{{(failure or '').replace(' ', '_')}}}"
    for reason in TOKEN_REASONS:
        named = any(isinstance(one, Details) and sign in one.texts for one in reason.signs)
        if named and reason.code != _OTHER_ISSUER.reason:
            return Refused(reason.code, reason.status or _NOT_VERIFIED.status, BEARER)
    return _NOT_VERIFIED


def _same(claims: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    return all(claims.get(name) == payload.get(name) for name in _TELLING)
