"""State of the world, in short words: ``CDS a b`` is a response with the clusters a and b."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from isthmus.ads.leaving import LINGER
from isthmus.ads.stream import ACK_DEADLINE
from isthmus.ads.whole import WholeStream
from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import discovery_v3
from isthmus.xds.snapshot import Built, snapshot

from .playbook import START, TYPES, WORDS, cluster, endpoint, listener, route


@dataclass(slots=True)
class Playbook:
    stream: WholeStream
    now: datetime = START
    responses: dict[str, deque[Any]] = field(default_factory=dict)
    newest: dict[str, Any] = field(default_factory=dict)

    def ask(self, word: str, *names: str, response: Any = None, refused: str = "") -> list[str]:
        request = discovery_v3.DiscoveryRequest(type_url=TYPES[word], resource_names=names)
        if response is not None:
            request.response_nonce = response.nonce
            request.version_info = "" if refused else response.version_info
        if refused:
            request.error_detail.message = refused
        return self.hear(self.stream.receive(request, self.now))

    def ack(self, word: str, *names: str) -> list[str]:
        return self.ask(word, *names, response=self.responses[word].popleft())

    def nack(self, word: str, message: str, *names: str) -> list[str]:
        return self.ask(word, *names, response=self.responses[word].popleft(), refused=message)

    def publish(self, *builts: Built) -> list[str]:
        return self.hear(self.stream.publish(snapshot(builts), self.now))

    def wait(self, seconds: float) -> list[str]:
        self.now += timedelta(seconds=seconds)
        return self.hear(self.stream.tick(self.now))

    def hear(self, encoded: Iterable[bytes]) -> list[str]:
        heard = []
        for each in encoded:
            response = discovery_v3.DiscoveryResponse.FromString(each)
            word = WORDS[response.type_url]
            self.responses.setdefault(word, deque()).append(response)
            self.newest[word] = response
            heard.append(" ".join([word, *map(_name, response.resources)]))
        return heard

    def state(self, word: str) -> str:
        return self.stream.status().types[TYPES[word]].state.value


def _name(packed: Any) -> str:
    found: Any = unpack(packed)
    return str(found.cluster_name if hasattr(found, "cluster_name") else found.name)


def playbook(*builts: Built) -> Playbook:
    return Playbook(WholeStream("gateway~shop~web", snapshot(builts), START))


def settled() -> Playbook:
    """A proxy with a cluster, its endpoints, a listener and its routes."""
    book = playbook(*ALL)
    book.ask("CDS")
    book.ask("EDS", "a")
    book.ack("EDS", "a")
    book.ack("CDS")
    book.ask("LDS")
    book.ask("RDS", "web")
    book.ack("LDS")
    book.ack("RDS", "web")
    assert book.stream.status().in_sync
    return book


ALL = (cluster("a"), endpoint("a"), listener("web"), route("web"))


def test_a_first_connection_is_told_everything_in_envoys_order() -> None:
    book = playbook(*ALL)
    assert book.ask("CDS") == ["CDS a"]
    assert book.ask("EDS", "a") == ["EDS a"]
    assert book.ack("EDS", "a") == []
    assert book.ack("CDS") == []
    assert book.ask("LDS") == ["LDS web"]
    assert book.ask("RDS", "web") == ["RDS web"]
    assert book.ack("LDS") == []
    assert not book.stream.status().in_sync
    assert book.ack("RDS", "web") == []
    assert book.stream.status().in_sync


def test_wildcards_are_answered_even_when_there_is_nothing() -> None:
    book = playbook()
    assert book.ask("CDS") == ["CDS"]
    assert book.ack("CDS") == []
    assert book.ask("LDS", "*") == ["LDS"]
    assert book.ack("LDS", "*") == []
    assert book.stream.status().in_sync


def test_a_route_moves_before_its_old_cluster_goes() -> None:
    book = settled()
    assert book.publish(cluster("b"), endpoint("b"), listener("web"), route("web", 2)) == ["CDS a b"]
    assert book.ask("EDS", "a", "b", response=book.newest["EDS"]) == ["EDS b"]
    assert book.ack("EDS", "a", "b") == []
    assert book.ack("CDS") == ["RDS web"]
    assert book.ack("RDS", "web") == []
    assert book.stream.status().in_sync
    assert book.stream.next_deadline == book.now + LINGER
    assert book.wait(LINGER.total_seconds()) == ["CDS b"]
    assert not book.stream.status().in_sync
    assert book.ack("CDS") == []
    assert book.stream.status().in_sync
    assert book.stream.next_deadline is None


def test_a_cluster_leaves_in_its_time_behind_a_gate_that_is_shut() -> None:
    book = settled()
    gone = (listener("web"), route("web"))
    book.publish(*gone)
    book.wait(LINGER.total_seconds() - 1)
    assert book.publish(cluster("b"), *gone) == ["CDS a b"]
    assert book.wait(1) == ["CDS b"]
    until = book.stream.next_deadline
    assert until is not None
    assert until > book.now, "it asks to be called without end"
    assert book.ack("CDS") == [], "another one has overtaken that response"
    assert not book.stream.status().in_sync
    assert book.ack("CDS") == []
    assert book.stream.status().in_sync
    # So it is behind the gate of listeners.
    book.publish(*gone)
    book.wait(LINGER.total_seconds() - 1)
    assert book.publish(listener("web", 2), route("web")) == ["LDS web"]
    assert book.wait(1) == ["CDS"]
    assert book.ack("LDS") == book.ack("CDS") == []
    assert book.stream.status().in_sync
    assert book.stream.next_deadline is None


def test_a_cluster_that_leaves_is_in_every_response_until_it_goes_or_comes_back() -> None:
    book = settled()
    gone = (listener("web"), route("web"))
    assert book.publish(*gone) == []
    book.wait(1)
    assert book.publish(cluster("b"), *gone) == ["CDS a b"]
    assert book.ack("CDS") == []
    assert book.wait(LINGER.total_seconds() - 1) == ["CDS b"]
    assert book.ack("CDS") == []
    assert book.publish(*gone) == []
    assert book.publish(cluster("b"), *gone) == []
    assert book.wait(60) == []
    assert book.stream.status().in_sync


def test_a_gate_that_does_not_open_is_passed() -> None:
    book = settled()
    assert book.publish(cluster("a", 2), endpoint("a"), listener("web", 2), route("web")) == ["CDS a", "EDS a"]
    assert book.stream.next_deadline == START + ACK_DEADLINE
    assert book.wait(ACK_DEADLINE.total_seconds()) == ["LDS web"]


def test_a_changed_cluster_has_its_endpoints_sent_again() -> None:
    book = settled()
    assert book.publish(cluster("a", 2), *ALL[1:]) == ["CDS a", "EDS a"]


def test_what_is_the_same_is_not_sent() -> None:
    book = settled()
    assert book.publish(*ALL) == []
    assert book.stream.status().in_sync
    assert book.stream.in_sync(snapshot(ALL).version)
    assert book.stream.uncertain() == {}


def test_a_request_that_another_response_has_overtaken_is_ignored() -> None:
    book = settled()
    old = book.newest["LDS"]
    assert book.publish(*ALL[:2], listener("web", 2), route("web")) == ["LDS web"]
    assert book.ask("LDS", response=old) == []
    assert book.state("LDS") == "STALE"
    assert book.ack("LDS") == []
    assert book.stream.status().in_sync


def test_a_refusal_names_the_resource_and_stays_until_it_is_mended() -> None:
    book = settled()
    bad, fine = listener("bad", line=7), listener("fine")
    assert book.publish(*ALL, bad, fine) == ["LDS web bad fine"]
    assert book.nack("LDS", "Error adding/updating listener(s) bad: no") == []
    (refusal,) = book.stream.status().refusals
    assert (refusal.name, refusal.origins) == ("bad", bad.origins)
    assert book.state("LDS") == "ERROR"
    assert book.wait(60) == [], "what is refused is not sent again"
    assert book.publish(*ALL, listener("bad", 2), fine) == ["LDS web bad fine"]
    assert book.ack("LDS") == []
    assert book.stream.status().refusals == ()
    assert book.stream.status().in_sync


def test_clusters_stay_while_an_earlier_route_may_need_them() -> None:
    book = settled()
    book.publish(cluster("b"), endpoint("b"), listener("web"), route("web", 2))
    book.ask("EDS", "a", "b", response=book.newest["EDS"])
    book.ack("EDS", "a", "b")
    book.ack("CDS")
    assert book.nack("RDS", "web: no such cluster", "web") == []
    assert [_name(one) for one in book.newest["CDS"].resources] == ["a", "b"]
    assert not book.stream.status().in_sync
    assert book.publish(cluster("b"), endpoint("b"), listener("web"), route("web", 3)) == ["RDS web"]
    assert book.ack("RDS", "web") == []
    assert book.wait(LINGER.total_seconds()) == ["CDS b"]


def test_what_is_not_there_waits_until_it_is() -> None:
    book = settled()
    assert book.ask("RDS", "later", "web", response=book.newest["RDS"]) == ["RDS web"]
    assert book.ack("RDS", "later", "web") == []
    assert book.publish(*ALL, route("later")) == ["RDS later web"]


def test_who_asks_for_nothing_any_more_is_waited_for_no_longer() -> None:
    book = settled()
    old = book.newest["RDS"]
    assert book.publish(*ALL[:3], route("web", 2)) == ["RDS web"]
    assert book.ask("RDS", response=old) == []
    assert book.stream.status().in_sync


def test_other_types_are_not_answered() -> None:
    book = settled()
    assert book.ask("SDS", "ROOTCA") == []
