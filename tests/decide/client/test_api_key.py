from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from isthmus.consumer.key import ApiKey
from isthmus.consumer.record import KeyRecord
from isthmus.decide.client.api_key import AS_IT_CAME, Cleaned, check_key, find_keys
from isthmus.decide.client.outcome import Refused, Verified
from isthmus.decide.client.question import Question
from isthmus.model.client_authentication import Accepted, ApiKeyMethod

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def asked(places: ApiKeyMethod | None, path: str = "/", **headers: str | tuple[str, ...]) -> Question:
    """``headers``: ``x_key`` is ``x-key``."""
    given = {name.replace("_", "-"): (value,) if isinstance(value, str) else value for name, value in headers.items()}
    return Question(Accepted(api_key=places), given, path)


HEADER = ApiKeyMethod(headers=("x-key",))
QUERY = ApiKeyMethod(query=("k",))
COOKIE = ApiKeyMethod(cookies=("k",))
AUTHORIZATION = ApiKeyMethod(headers=("authorization",))


@pytest.mark.parametrize(
    ("question", "found", "cleaned"),
    [
        (asked(None, "/?k=1", x_key="a"), (), AS_IT_CAME),
        (asked(HEADER), (), AS_IT_CAME),
        (asked(HEADER, x_key=" a "), ("a",), Cleaned(("x-key",))),
        (asked(HEADER, x_key=""), ("",), Cleaned(("x-key",))),
        (asked(HEADER, x_key=("a", "b")), ("a", "b"), Cleaned(("x-key",))),
        (asked(AUTHORIZATION, authorization="Bearer isk_a"), ("isk_a",), Cleaned(("authorization",))),
        (asked(AUTHORIZATION, authorization="isk_a"), ("isk_a",), Cleaned(("authorization",))),
        (asked(AUTHORIZATION, authorization="BEARER\t  isk_a "), ("isk_a",), Cleaned(("authorization",))),
        (asked(AUTHORIZATION, authorization="Token isk_a"), ("Token isk_a",), Cleaned(("authorization",))),
        (asked(AUTHORIZATION, authorization="Bearer a,isk_b"), ("a,isk_b",), Cleaned(("authorization",))),
        (asked(AUTHORIZATION, authorization="Bearer\xa0isk_b"), ("Bearer\xa0isk_b",), Cleaned(("authorization",))),
        (asked(AUTHORIZATION, authorization="Bearer eyJ"), (), AS_IT_CAME),
        (asked(AUTHORIZATION, authorization="Bearer eyJisk_a"), (), AS_IT_CAME),
        (asked(HEADER, x_key="\xa0a"), ("\xa0a",), Cleaned(("x-key",))),
        (asked(QUERY, "/a"), (), AS_IT_CAME),
        (asked(QUERY, "/a?b=1"), (), AS_IT_CAME),
        (asked(QUERY, "/a?k=1"), ("1",), Cleaned(path="/a")),
        (asked(QUERY, "/a?b=%2F+&k=%31&&c"), ("1",), Cleaned(path="/a?b=%2F+&&c")),
        (asked(QUERY, "/a?%6b=1&x=k"), ("1",), Cleaned(path="/a?x=k")),
        (asked(QUERY, "/a?k"), ("",), Cleaned(path="/a")),
        (asked(QUERY, "/a?k=1&k=2"), ("1", "2"), Cleaned(path="/a")),
        (asked(COOKIE, cookie="a=1"), (), AS_IT_CAME),
        (asked(COOKIE, cookie="a=1; k=x; b=2=3"), ("x",), Cleaned(cookie="a=1; b=2=3")),
        (asked(COOKIE, cookie=("k=x", "a=1")), ("x",), Cleaned(cookie="a=1")),
        (asked(COOKIE, cookie="k=x"), ("x",), Cleaned(("cookie",))),
    ],
)
def test_found_and_taken_out(question: Question, found: tuple[str, ...], cleaned: Cleaned) -> None:
    assert find_keys(question) == (found, cleaned)


class Kept:
    def __init__(self, *records: KeyRecord) -> None:
        self._records = {record.id: record for record in records}

    async def find(self, key_id: str) -> KeyRecord | None:
        return self._records.get(key_id)


KEY = ApiKey.make()


def kept(**others: Any) -> Kept:
    return Kept(KeyRecord(KEY.id, "shop/mobile", KEY.digest, NOW, **others))


@pytest.mark.parametrize(
    ("text", "keys", "outcome"),
    [
        (KEY.text, kept(), Verified("api-key", "shop/mobile")),
        (KEY.text, Kept(), Refused("api-key-unknown", 401, "ApiKey")),
        (ApiKey(KEY.id, ApiKey.make().secret).text, kept(), Refused("api-key-unknown", 401, "ApiKey")),
        (KEY.text[:-1] + "!", kept(), Refused("api-key-unknown", 401, "ApiKey")),
        ("", kept(), Refused("api-key-unknown", 401, "ApiKey")),
        (KEY.text, kept(expires=NOW), Refused("api-key-expired", 401, "ApiKey")),
        (KEY.text, kept(expires=NOW + timedelta(seconds=1)), Verified("api-key", "shop/mobile")),
        (KEY.text, kept(expires=NOW, revoked=NOW), Refused("api-key-revoked", 401, "ApiKey")),
        # Who has the wrong secret is not told that the key was ever revoked.
        (ApiKey(KEY.id, ApiKey.make().secret).text, kept(revoked=NOW), Refused("api-key-unknown", 401, "ApiKey")),
    ],
    ids=count(),  # keys are new each time, and their names must not be
)
async def test_whose_it_is(text: str, keys: Kept, outcome: Verified | Refused) -> None:
    assert await check_key(text, keys, NOW) == outcome
