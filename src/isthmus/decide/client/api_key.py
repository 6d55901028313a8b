"""API keys: found where the route takes them, taken out of the request, and checked."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from urllib.parse import unquote_plus

from isthmus.consumer.key import PREFIX, ApiKey, KeyMalformed
from isthmus.consumer.record import KeyRecord, KeyState
from isthmus.decide.client.outcome import Outcome, Refused, Verified
from isthmus.decide.client.question import Question
from isthmus.model.client_authentication import API_KEY_SCHEME, ApiKeyMethod

METHOD = "api-key"
CHALLENGE = API_KEY_SCHEME
_UNKNOWN = Refused("api-key-unknown", 401, CHALLENGE)
_REFUSED = {
    KeyState.REVOKED: Refused("api-key-revoked", 401, CHALLENGE),
    KeyState.EXPIRED: Refused("api-key-expired", 401, CHALLENGE),
}
_SCHEMES = ("bearer", "apikey")
"""Before a key in ``authorization``."""
_SPACE = " \t"
_BETWEEN = re.compile(r"[\s,]+")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What becomes of the request before it goes on: no key goes upstream. None: as it came.

    ``headers``: names to take away; ``path``, ``cookie``: what to write instead.
    """

    headers: tuple[str, ...] = ()
    path: str | None = field(default=None, repr=False)
    cookie: str | None = field(default=None, repr=False)


AS_IT_CAME = Cleaned()


class Keys(Protocol):
    async def find(self, key_id: str) -> KeyRecord | None:
        """Raises CredentialsUnavailable."""


def is_key(value: str) -> bool:
    """Whether a value of ``authorization`` is a key, or was meant to be one: it is no credential of another sort.

    That header is for others' credentials, too: a key is told by its prefix there.
    """
    return any(word.startswith(PREFIX) for word in _BETWEEN.split(value))


def find_keys(question: Question) -> tuple[tuple[str, ...], Cleaned]:
    """The keys in every place where the route takes them, and the request without them."""
    places = question.accepted.api_key
    if places is None:
        return (), AS_IT_CAME
    found: list[str] = []
    headers = []
    for name in places.headers:
        values = tuple(_in_header(name, question))
        found += values
        if values:
            headers.append(name)
    path, in_query = _without_parameters(question.path, places.query) if places.query else (None, [])
    cookie, in_cookie = _without_cookies(question, places)
    if cookie == "":
        headers.append("cookie")
        cookie = None
    return (*found, *in_query, *in_cookie), Cleaned(tuple(headers), path, cookie)


def _in_header(name: str, question: Question) -> Iterator[str]:
    for value in question.values(name):
        if name != "authorization" or is_key(value):
            yield _without_scheme(value) if name == "authorization" else value.strip(_SPACE)


def _without_scheme(value: str) -> str:
    first, *rest = value.strip(_SPACE).replace("\t", " ").split(" ", 1)
    return rest[0].strip(" ") if rest and first.lower() in _SCHEMES else value.strip(_SPACE)


def _without_parameters(path: str, names: Collection[str]) -> tuple[str | None, list[str]]:
    """The path without these parameters, otherwise byte for byte; None: it has none of them."""
    before, question_mark, query = path.partition("?")
    if not question_mark:
        return None, []
    kept, found = [], []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if unquote_plus(name) in names:
            found.append(unquote_plus(value))
        else:
            kept.append(part)
    if not found:
        return None, []
    return (f"{before}?{'&'.join(kept)}" if kept else before), found


def _without_cookies(question: Question, places: ApiKeyMethod) -> tuple[str | None, list[str]]:
    """The cookies without these; None: there is none of them."""
    if not places.cookies:
        return None, []
    cookies = tuple(question.cookies())
    found = [value for name, value in cookies if name in places.cookies]
    if not found:
        return None, []
    return "; ".join(f"{name}={value}" for name, value in cookies if name not in places.cookies), found


async def check_key(text: str, keys: Keys, now: datetime) -> Outcome:
    """Whose key it is. Raises CredentialsUnavailable."""
    try:
        key = ApiKey.parse(text)
    except KeyMalformed:
        return _UNKNOWN
    known = await keys.find(key.id)
    # Whether an id is known is no secret; whether the secret is right is all that a holder can be told more.
    if known is None or not key.has(known.digest):
        return _UNKNOWN
    state = known.state(now)
    return Verified(METHOD, known.consumer) if state is KeyState.LIVE else _REFUSED[state]
