from __future__ import annotations

from typing import Any

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import discovery_v3, status, tls_v3
from isthmus.proxy.sds_stream import SECRET_TYPE, DeltaStream, Secrets, ServedSecret, WholeStream


class Refusals(list[tuple[str, str]]):
    def __call__(self, names: str, why: str) -> None:
        self.append((names, why))


def secret(name: str, version: str) -> ServedSecret:
    return ServedSecret(name, version, any_of(tls_v3.Secret(name=name)))


def secrets(*there: ServedSecret, planned: tuple[str, ...] = ()) -> Secrets:
    return Secrets(frozenset(planned) | {one.name for one in there}, {one.name: one for one in there})


def ask(*names: str, nonce: str = "", error: str = "") -> Any:
    request = discovery_v3.DiscoveryRequest(type_url=SECRET_TYPE, resource_names=names, response_nonce=nonce)
    if error:
        request.error_detail.CopyFrom(status.Status(message=error))
    return request


def subscribe(*names: str, known: dict[str, str] | None = None, leave: tuple[str, ...] = (), error: str = "") -> Any:
    request = discovery_v3.DeltaDiscoveryRequest(
        type_url=SECRET_TYPE,
        resource_names_subscribe=names,
        resource_names_unsubscribe=leave,
        initial_resource_versions=known or {},
    )
    if error:
        request.error_detail.CopyFrom(status.Status(message=error))
    return request


def names(responses: list[Any]) -> list[list[str]]:
    return [[tls_v3.Secret.FromString(one.value).name for one in response.resources] for response in responses]


def changes(responses: list[Any]) -> list[tuple[list[tuple[str, str]], list[str]]]:
    return [
        ([(one.name, one.version) for one in response.resources], list(response.removed_resources))
        for response in responses
    ]


class TestWhole:
    def test_what_is_there_is_sent_once_and_again_when_it_changes(self) -> None:
        stream = WholeStream(Refusals())
        there = secrets(secret("default", "1"))
        [response] = stream.receive(ask("default"), there)
        assert names([response]) == [["default"]]
        assert response.type_url == SECRET_TYPE
        assert stream.receive(ask("default", nonce=response.nonce), there) == []
        assert stream.publish(there) == []
        assert names(stream.publish(secrets(secret("default", "2")))) == [["default"]]

    def test_what_is_not_there_is_waited_for(self) -> None:
        stream = WholeStream(Refusals())
        assert stream.receive(ask("default"), secrets(planned=("default",))) == []
        assert names(stream.publish(secrets(secret("default", "1")))) == [["default"]]

    def test_only_what_was_asked_for_is_sent(self) -> None:
        stream = WholeStream(Refusals())
        both = secrets(secret("default", "1"), secret("ROOTCA", "1"))
        assert names(stream.receive(ask("ROOTCA"), both)) == [["ROOTCA"]]
        assert stream.publish(secrets(secret("default", "2"), secret("ROOTCA", "1"))) == []

    def test_a_new_name_is_sent_with_the_old_one(self) -> None:
        stream = WholeStream(Refusals())
        both = secrets(secret("default", "1"), secret("ROOTCA", "1"))
        [first] = stream.receive(ask("default"), both)
        assert names(stream.receive(ask("default", "ROOTCA", nonce=first.nonce), both)) == [["ROOTCA", "default"]]

    def test_an_answer_that_was_overtaken_counts_for_nothing(self) -> None:
        stream = WholeStream(Refusals())
        there = secrets(secret("default", "1"))
        [first] = stream.receive(ask("default"), there)
        [second] = stream.publish(secrets(secret("default", "2")))
        assert stream.receive(ask(nonce=first.nonce), there) == []
        assert names(stream.publish(secrets(secret("default", "3")))) == [["default"]]
        assert first.nonce != second.nonce

    def test_a_refused_secret_is_not_sent_again_until_it_changes(self) -> None:
        refusals = Refusals()
        stream = WholeStream(refusals)
        there = secrets(secret("default", "1"))
        [response] = stream.receive(ask("default"), there)
        assert stream.receive(ask("default", nonce=response.nonce, error="bad key"), there) == []
        assert refusals == [("default", "bad key")]
        assert names(stream.publish(secrets(secret("default", "2")))) == [["default"]]


class TestDelta:
    def test_changes_alone_are_sent(self) -> None:
        stream = DeltaStream(Refusals())
        first = secrets(secret("default", "1"), secret("ROOTCA", "1"))
        assert changes(stream.receive(subscribe("default", "ROOTCA"), first)) == [
            ([("ROOTCA", "1"), ("default", "1")], [])
        ]
        second = secrets(secret("default", "2"), secret("ROOTCA", "1"))
        assert changes(stream.publish(second)) == [([("default", "2")], [])]
        assert stream.publish(second) == []

    def test_a_planned_name_is_waited_for_an_unknown_one_is_removed_once(self) -> None:
        stream = DeltaStream(Refusals())
        planned = secrets(planned=("default",))
        assert changes(stream.receive(subscribe("default", "nothing"), planned)) == [([], ["nothing"])]
        assert stream.publish(planned) == []
        assert changes(stream.publish(secrets(secret("default", "1")))) == [([("default", "1")], [])]

    def test_what_leaves_the_plan_is_removed_and_may_come_back(self) -> None:
        stream = DeltaStream(Refusals())
        stream.receive(subscribe("default"), secrets(secret("default", "1")))
        assert changes(stream.publish(secrets())) == [([], ["default"])]
        assert changes(stream.publish(secrets(secret("default", "1")))) == [([("default", "1")], [])]

    def test_an_envoy_that_comes_back_says_what_it_has(self) -> None:
        stream = DeltaStream(Refusals())
        there = secrets(secret("default", "2"), secret("ROOTCA", "1"))
        request = subscribe("default", "ROOTCA", known={"default": "1", "ROOTCA": "1"})
        assert changes(stream.receive(request, there)) == [([("default", "2")], [])]

    def test_asked_for_again_means_sent_again(self) -> None:
        stream = DeltaStream(Refusals())
        there = secrets(secret("default", "1"))
        stream.receive(subscribe("default"), there)
        assert changes(stream.receive(subscribe("default"), there)) == [([("default", "1")], [])]

    def test_nothing_is_sent_for_a_name_that_was_left(self) -> None:
        stream = DeltaStream(Refusals())
        stream.receive(subscribe("default"), secrets(secret("default", "1")))
        stream.receive(subscribe(leave=("default",)), secrets(secret("default", "1")))
        assert stream.publish(secrets(secret("default", "2"))) == []

    def test_a_refusal_is_heard_and_not_answered(self) -> None:
        refusals = Refusals()
        stream = DeltaStream(refusals)
        there = secrets(secret("default", "1"))
        stream.receive(subscribe("default"), there)
        assert stream.receive(subscribe(error="bad key"), there) == []
        assert refusals == [("default", "bad key")]


class TestConfirmed:
    """What a client has taken is known by its own word."""

    def test_the_whole_form(self) -> None:
        stream = WholeStream(Refusals())
        assert not stream.lacks("ROOTCA", "1"), "nobody asked"
        [first] = stream.receive(ask("ROOTCA"), secrets(secret("ROOTCA", "1")))
        assert stream.lacks("ROOTCA", "1")
        stream.receive(ask("ROOTCA", nonce=first.nonce), secrets(secret("ROOTCA", "1")))
        assert not stream.lacks("ROOTCA", "1")
        [second] = stream.publish(secrets(secret("ROOTCA", "2")))
        assert stream.lacks("ROOTCA", "2")
        stream.receive(ask("ROOTCA", nonce=second.nonce, error="bad"), secrets(secret("ROOTCA", "2")))
        assert stream.lacks("ROOTCA", "2"), "refused"

    def test_the_delta_form(self) -> None:
        stream = DeltaStream(Refusals())
        there = secrets(secret("ROOTCA", "1"))
        [first] = stream.receive(subscribe("ROOTCA"), there)
        assert stream.lacks("ROOTCA", "1")
        confirmed = discovery_v3.DeltaDiscoveryRequest(type_url=SECRET_TYPE, response_nonce=first.nonce)
        stream.receive(confirmed, there)
        assert not stream.lacks("ROOTCA", "1")
        assert stream.lacks("ROOTCA", "2")


def test_no_repr_shows_a_secret() -> None:
    packed = any_of(tls_v3.Secret(name="hidden-bytes"))
    assert "hidden-bytes" not in repr(secrets(ServedSecret("default", "1", packed)))


class Asked:
    """Knows one name, whose secret is there or not."""

    def __init__(self, name: str, there: ServedSecret | None) -> None:
        self.name, self.there = name, there

    def knows(self, name: str) -> bool:
        return name == self.name

    def find(self, name: str) -> ServedSecret | None:
        return self.there if name == self.name else None


def test_names_that_are_not_planned_are_found_on_demand_or_refused_at_once() -> None:
    stream, asked = DeltaStream(Refusals()), Asked("a.example.com", None)
    now = Secrets(frozenset(), {}, asked)
    assert stream.receive(subscribe("a.example.com"), now) == [], "it may come"
    assert changes(stream.receive(subscribe("b.example.com"), now)) == [([], ["b.example.com"])]
    asked.there = secret("a.example.com", "1")
    assert changes(stream.publish(now)) == [([("a.example.com", "1")], [])]
    assert stream.publish(now) == []
    asked.name = "nothing"
    assert changes(stream.publish(now)) == [([], ["a.example.com"])]
