from __future__ import annotations

import pytest

from isthmus.decide.client.api_key import Cleaned
from isthmus.decide.client.check import Answer, ConsumerFacts
from isthmus.decide.client.outcome import Refused, Verified
from isthmus.decide.client.wire import build_answer, read_question, to_plain
from isthmus.envoy_api.packages import core_v3, ext_authz_service_v3
from isthmus.model.client_authentication import ACCEPTS, Accepted, ApiKeyMethod

ACCEPTED = Accepted(api_key=ApiKeyMethod(("x-key",)))
TOKENS = Accepted(issuers=("https://a.example",))


def request(accepted: Accepted | None = ACCEPTED, *headers: tuple[str, bytes]):
    built = ext_authz_service_v3.CheckRequest()
    if accepted is not None:
        built.attributes.context_extensions[ACCEPTS] = accepted.text
    built.attributes.request.http.path = "/a?b"
    built.attributes.source.certificate = "PEM"
    for name, value in headers:
        built.attributes.request.http.header_map.headers.append(core_v3.HeaderValue(key=name, raw_value=value))
    return built


def test_what_a_route_takes_and_a_request_brings() -> None:
    question = read_question(request(ACCEPTED, ("x-key", b"a"), ("Cookie", b"c=\xc3\xa9"), ("x-key", b"b")), {})
    assert question.accepted == ACCEPTED
    assert question.headers == {"x-key": ("a", "b"), "cookie": ("c=é",)}
    assert (question.path, question.certificate, question.token) == ("/a?b", "PEM", None)


def test_the_filter_says_what_is_taken_where_the_route_does_not() -> None:
    assert read_question(request(None), {ACCEPTS: TOKENS.text}).accepted == TOKENS
    assert read_question(request(ACCEPTED), {ACCEPTS: TOKENS.text}).accepted == ACCEPTED


@pytest.mark.parametrize("metadata", [{}, {ACCEPTS: "nonsense"}, {ACCEPTS: "{}"}])
def test_a_question_that_says_nothing(metadata: dict[str, str | bytes]) -> None:
    with pytest.raises(ValueError, match="accept"):
        read_question(request(None), metadata)


def test_the_token_that_was_verified() -> None:
    asked = request(TOKENS)
    found = asked.attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
    found.update({"payload": {"sub": "alice", "level": 3, "groups": ["a", None], "ok": True}})
    assert read_question(asked, {}).token == {"sub": "alice", "level": 3.0, "groups": ["a", None], "ok": True}
    asked.attributes.context_extensions[ACCEPTS] = ACCEPTED.text
    assert read_question(asked, {}).token is None, "where no token counts none is looked at"


def test_why_a_token_was_not() -> None:
    asked = request(TOKENS)
    found = asked.attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
    found.update({"jwt_failure": {"code": 3, "message": "Jwt is expired"}})
    assert read_question(asked, {}).token_failure == "Jwt is expired"


def test_a_consent() -> None:
    cleaned = Cleaned(("x-key",), "/a", "b=c")
    facts = ConsumerFacts(("apps", "eu"), "gold")
    built = build_answer(Answer(Verified("api-key", "shop/mobile"), facts, cleaned))
    assert built.status.code == 0
    consent = built.ok_response
    assert list(consent.headers_to_remove) == ["x-key"]
    assert {one.header.key: one.header.value for one in consent.headers} == {
        ":path": "/a",
        "cookie": "b=c",
        "x-isthmus-consumer": "shop/mobile",
    }
    assert {name: to_plain(value) for name, value in built.dynamic_metadata.fields.items()} == {
        "method": "api-key",
        "consumer": "mobile",
        "consumer_namespace": "shop",
        "groups": ["apps", "eu"],
        "plan": "gold",
    }


def test_claims_are_told_as_they_are() -> None:
    claims = {"sub": "alice", "exp": 1.5, "scope": ["a"], "cnf": {"x": None}, "ok": True}
    built = build_answer(Answer(Verified("introspection", claims=claims)))
    assert to_plain(built.dynamic_metadata.fields["claims"]) == claims
    assert list(built.ok_response.headers_to_remove) == ["x-isthmus-consumer"], "nobody says so by himself"


def test_nobody_in_particular() -> None:
    built = build_answer(Answer(Verified("")))
    assert built.HasField("ok_response")
    assert not built.dynamic_metadata.fields


def test_a_refusal() -> None:
    built = build_answer(Answer(Refused("api-key-revoked", 401, "ApiKey")))
    assert built.status.code == 7
    assert built.denied_response.status.code == 401
    assert built.denied_response.body == ""
    (challenge,) = built.denied_response.headers
    assert (challenge.header.key, challenge.header.value) == ("www-authenticate", "ApiKey")
    assert to_plain(built.dynamic_metadata.fields["reason"]) == "api-key-revoked"


def test_a_session_says_whose_login_it_is_of() -> None:
    asked = request(Accepted(logins=("1f",)))
    found = asked.attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
    found.update({"payload": {"sub": "alice"}, "login:1f": {"alg": "RS256"}})
    assert read_question(asked, {}).login == "1f"
    found.Clear()
    found.update({"payload": {"sub": "alice"}, "header": {"alg": "RS256"}})
    assert read_question(asked, {}).login is None


def test_a_consent_is_that_of_what_is_known_now() -> None:
    mobile = Verified("api-key", "shop/mobile")
    for plan in ("gold", "silver", "gold"):
        built = build_answer(Answer(mobile, ConsumerFacts(plan=plan)))
        assert to_plain(built.dynamic_metadata.fields["plan"]) == plan
    with_path = build_answer(Answer(mobile, ConsumerFacts(plan="gold"), Cleaned(path="/a")))
    assert [one.header.value for one in with_path.ok_response.headers] == ["/a", "shop/mobile"]
