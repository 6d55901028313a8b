from __future__ import annotations

import re

import pytest

from isthmus.consumer.key import ApiKey, KeyMalformed, is_id


def test_what_is_made_is_read_again() -> None:
    key = ApiKey.make()
    assert ApiKey.parse(key.text) == key
    assert len(key.text) == 55
    assert key.has(key.digest)


def test_no_two_are_alike() -> None:
    made = [ApiKey.make() for _ in range(1000)]
    assert len({key.id for key in made}) == len({key.secret for key in made}) == 1000


def test_the_form_is_public() -> None:
    """Keys that people hold, and scanners' rules (docs/guides/consumers-and-api-keys.md), must stay good."""
    known = ApiKey("0123456789ab", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef")
    assert known.text == "isk_0123456789ab_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef1fVmON"
    assert known.digest.hex() == "442eaf36620f9a6494dac37842c5e9b51ce7f1451d662da2bf736ca239439603"


def test_a_text_is_searched_for_keys() -> None:
    key = ApiKey.make().text
    pattern = r"\bisk_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}\b"
    assert re.findall(pattern, f'curl -H "x-api-key: {key}" https://shop.example/') == [key]


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "isk_",
        "isk",
        "Bearer x",
        "isk_" + "a" * 51,
        "isk_0123456789ab_",
        "isk_0123456789ab_é",
        "x" * 10_000,
        "isk\n",
    ],
)
def test_what_is_no_key(wrong: str) -> None:
    with pytest.raises(KeyMalformed, match="not of the form"):
        ApiKey.parse(wrong)


def test_a_typing_error_is_found_without_asking_anybody() -> None:
    text = ApiKey.make().text
    for at in range(4, len(text)):
        if text[at] != "_":
            wrong = text[:at] + ("a" if text[at] != "a" else "b") + text[at + 1 :]
            with pytest.raises(KeyMalformed, match="checksum") as raised:
                ApiKey.parse(wrong)
            assert wrong not in str(raised.value)


def test_the_digest_is_of_this_key_alone() -> None:
    key = ApiKey.make()
    assert not ApiKey(ApiKey.make().id, key.secret).has(key.digest)
    assert not ApiKey(key.id, ApiKey.make().secret).has(key.digest)


def test_no_repr_shows_the_secret() -> None:
    key = ApiKey.make()
    assert key.secret not in repr(key)
    assert key.id in repr(key)


def test_ids() -> None:
    assert is_id(ApiKey.make().id)
    assert not is_id("shop/mobile")
    assert not is_id("")
