from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote

from isthmus.consumer.key import ApiKey
from isthmus.consumer.record import KeyRecord
from isthmus.decide.client.api_key import Cleaned
from isthmus.decide.client.check import ANONYMOUS, UNAVAILABLE, Answer, Checker, ConsumerFacts, challenge
from isthmus.decide.client.outcome import Outcome, Refused, Verified
from isthmus.decide.client.question import Question
from isthmus.errors import CredentialsUnavailable
from isthmus.model.client_authentication import Accepted, ApiKeyMethod
from tests.real.pki import Authority

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = ApiKey.make()
MOBILE = ConsumerFacts(("apps",), "gold")
PARTNER = ConsumerFacts(certificates=("partner.example",))
CONSUMERS = {"shop/mobile": MOBILE, "shop/partner": PARTNER}
CERTIFICATE = quote(Authority("clients").issue("partner.example").pem.decode())
STRANGER = quote(Authority("clients").issue("stranger.example").pem.decode())
HEADER = ApiKeyMethod(headers=("x-key",))


class Keys:
    broken = False

    async def find(self, key_id: str) -> KeyRecord | None:
        if self.broken:
            raise CredentialsUnavailable("gone")
        return KeyRecord(KEY.id, "shop/mobile", KEY.digest, NOW) if key_id == KEY.id else None


class Tokens:
    """Takes ``authorization`` for a token, which is worth ``outcome``."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def brings(self, question: Question) -> bool:
        return bool(question.values("authorization"))

    async def check(self, question: Question, now: datetime) -> Outcome | None:
        return self._outcome if self.brings(question) else None


JWT = Verified("jwt")
BY_KEY = Accepted(api_key=HEADER)


def checker(token: Outcome = JWT) -> Checker:
    return Checker(Keys(), Tokens(token), CONSUMERS)


def asked(certificate: str = "", *, accepted: Accepted = BY_KEY, **headers: str) -> Question:
    return Question(accepted, {name.replace("_", "-"): (value,) for name, value in headers.items()}, "/", certificate)


BOTH = Accepted(api_key=HEADER, certificate=True)
OPTIONAL = Accepted(required=False, api_key=HEADER, certificate=True)


async def test_a_key() -> None:
    found = await checker().check(asked(x_key=KEY.text), NOW)
    assert found == Answer(Verified("api-key", "shop/mobile"), MOBILE, Cleaned(("x-key",)))


async def test_a_token_of_nobodys_in_particular() -> None:
    claims = {"sub": "alice"}
    found = await checker(Verified("introspection", claims=claims)).check(asked(authorization="Bearer x"), NOW)
    assert found == Answer(Verified("introspection", claims=claims))
    assert (await checker(Refused("token-inactive", 401)).check(asked(authorization="Bearer x"), NOW)).outcome == (
        Refused("token-inactive", 401)
    )


async def test_a_key_and_a_token_are_one_too_many() -> None:
    found = await checker().check(asked(x_key=KEY.text, authorization="Bearer x"), NOW)
    assert found.outcome == Refused("credential-ambiguous", 400)


async def test_what_another_route_took_before_this_one_was_chosen_comes_with_nobody() -> None:
    """Its claims would be asked together with the key's consumer, or the certificate's."""
    token = {"iss": "https://elsewhere", "groups": ["admins"]}
    key = replace(asked(x_key=KEY.text), token=token)
    assert (await checker().check(key, NOW)).outcome == Refused("credential-ambiguous", 400)
    for accepted in (BOTH, OPTIONAL):
        beside = replace(asked(CERTIFICATE, accepted=accepted), token=token)
        assert (await checker().check(beside, NOW)).outcome == Refused("credential-missing", 401, "ApiKey")


async def test_a_certificate_where_nothing_else_is_shown() -> None:
    by = checker()
    assert await by.check(asked(CERTIFICATE, accepted=BOTH), NOW) == Answer(
        Verified("certificate", "shop/partner"), PARTNER
    )
    assert (await by.check(asked(CERTIFICATE, accepted=BOTH, x_key=KEY.text), NOW)).outcome == Verified(
        "api-key", "shop/mobile"
    )
    assert (await by.check(asked(CERTIFICATE, accepted=BOTH, x_key="x"), NOW)).outcome == Refused(
        "api-key-unknown", 401, "ApiKey"
    )
    assert (await by.check(asked(STRANGER, accepted=BOTH), NOW)).outcome == Refused("consumer-unknown", 401)


async def test_a_certificate_is_nothing_where_it_is_no_method() -> None:
    found = await checker().check(asked(CERTIFICATE), NOW)
    assert found.outcome == Refused("credential-missing", 401, "ApiKey")


async def test_where_none_is_required() -> None:
    by = checker()
    assert await by.check(asked(accepted=OPTIONAL), NOW) == Answer(ANONYMOUS)
    assert await by.check(asked(STRANGER, accepted=OPTIONAL), NOW) == Answer(ANONYMOUS)
    assert (await by.check(asked(CERTIFICATE, accepted=OPTIONAL), NOW)).consumer == PARTNER
    assert isinstance((await by.check(asked(accepted=OPTIONAL, x_key="x"), NOW)).outcome, Refused)


async def test_who_is_in_no_manifest_is_nobody() -> None:
    by = checker()
    by.learn({"shop/partner": PARTNER})
    assert (await by.check(asked(x_key=KEY.text), NOW)).outcome == Refused("consumer-unknown", 401)
    by.learn({})
    assert (await by.check(asked(CERTIFICATE, accepted=BOTH), NOW)).outcome == Refused("consumer-unknown", 401)


async def test_what_cannot_be_found_out_is_refused() -> None:
    by = checker()
    by.keys = Keys()
    by.keys.broken = True
    assert await by.check(asked(x_key=KEY.text, accepted=OPTIONAL), NOW) == Answer(UNAVAILABLE)
    assert (await by.check(asked(CERTIFICATE, accepted=BOTH), NOW)).consumer == PARTNER, "no key is looked up for it"


def test_what_is_missing_is_said() -> None:
    assert challenge(Accepted(issuers=("https://a",), api_key=HEADER)) == "Bearer, ApiKey"
    assert challenge(Accepted(introspection="x")) == "Bearer"
    assert challenge(Accepted(certificate=True)) is None
