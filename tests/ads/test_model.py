"""Whatever an Envoy and its operators do, and in whatever order: in the end it has the newest snapshot.

The client model keeps to what was measured on Envoy 1.39: it applies the good part of a response that it refuses and
forgets to mention that part when it connects again; it confirms clusters only when they are warm, and a cluster is warm
when its endpoints were sent after it; a listener that is removed drains, and keeps its routes until it is gone.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from isthmus.ads.status import SyncState
from isthmus.ads.stream import ACK_DEADLINE, Stream
from isthmus.envoy_api.packages import discovery_v3
from isthmus.xds.snapshot import EMPTY, Built, Snapshot, message, snapshot

from .playbook import MAKERS, START, TYPES, WORDS

BAD = 9
DRAIN = timedelta(seconds=5)
CLUSTERS = ("c0", "c1", "c2")
LISTENERS = ("l0", "l1")
CONTENT = st.sampled_from([1, 2, 3, BAD])
PUBLISHED: dict[tuple[str, str], int] = {}
"""(name, version) → the content that it was made from."""


def made(word: str, name: str, content: int) -> Built:
    built = MAKERS[word](name, content)
    PUBLISHED[name, built.version] = content
    return built


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Consistent ones: every route (its content is ten times the cluster's number, and a variant) has its cluster."""
    builts: list[Built] = []
    clusters = draw(st.lists(st.sampled_from(CLUSTERS), unique=True, min_size=1))
    for name in clusters:
        builts.append(made("CDS", name, draw(CONTENT)))
        builts.append(made("EDS", name, draw(CONTENT)))
    for name in draw(st.lists(st.sampled_from(LISTENERS), unique=True)):
        builts.append(made("LDS", name, draw(CONTENT)))
        builts.append(made("RDS", name, 10 * CLUSTERS.index(draw(st.sampled_from(clusters))) + draw(CONTENT)))
    return snapshot(builts)


def cluster_of(name: str, version: str) -> str:
    return CLUSTERS[PUBLISHED[name, version] // 10]


class Envoy:
    """What an Envoy does with delta ADS."""

    def __init__(self) -> None:
        self.has: dict[str, dict[str, str]] = {word: {} for word in MAKERS}
        self.confirmed: dict[str, dict[str, str]] = {word: {} for word in MAKERS}
        self.subscribed: dict[str, set[str]] = {"EDS": set(), "RDS": set()}
        self.warming: set[str] = set()
        self.held_back: list[Any] = []
        self.draining: dict[str, datetime] = {}

    def connect(self) -> list[Any]:
        self.held_back = []
        first = []
        for word in ("CDS", "EDS", "LDS", "RDS"):
            names = sorted(self.subscribed.get(word, ()))
            if word in ("CDS", "LDS") or names:
                known = {n: v for n, v in self.confirmed[word].items() if word in ("CDS", "LDS") or n in names}
                first.append(
                    discovery_v3.DeltaDiscoveryRequest(
                        type_url=TYPES[word], resource_names_subscribe=names, initial_resource_versions=known
                    )
                )
        return first

    def take(self, response: Any, now: datetime) -> list[Any]:
        """Apply a response; return the requests that follow from it."""
        word = WORDS[response.type_url]
        assert len({r.name for r in response.resources}) == len(response.resources)
        bad = [r.name for r in response.resources if PUBLISHED[r.name, r.version] % 10 == BAD]
        for name in response.removed_resources:
            if word == "LDS" and name in self.has[word]:
                self.draining[name] = now + DRAIN
            self.has[word].pop(name, None)
            self.confirmed[word].pop(name, None)
            self.warming.discard(name)
        for resource in response.resources:
            unasked = word in self.subscribed and resource.name not in self.subscribed[word]
            if resource.name in bad or unasked:
                continue
            if word == "CDS" and self.has[word].get(resource.name) != resource.version:
                self.warming.add(resource.name)
            if word == "EDS":
                self.warming.discard(resource.name)
            self.has[word][resource.name] = resource.version
            if not bad:
                self.confirmed[word][resource.name] = resource.version
        if word == "EDS":
            # Envoy goes on with a cluster whose endpoints were refused or do not exist.
            self.warming -= set(bad)
        answer = discovery_v3.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if bad:
            answer.error_detail.message = f"bad: {bad}"
        out = self._subscriptions()
        if word == "CDS":
            self.held_back.append(answer)
        else:
            out.append(answer)
        return out if self.warming else out + self.warm()

    def warm(self) -> list[Any]:
        """All clusters are warm, or initial_fetch_timeout is over: confirm them."""
        self.warming.clear()
        confirmed, self.held_back = self.held_back, []
        return confirmed

    def drained(self, now: datetime) -> list[Any]:
        """Listeners whose time is over are gone, and what they alone used."""
        self.draining = {name: until for name, until in self.draining.items() if until > now}
        return self._subscriptions()

    def _subscriptions(self) -> list[Any]:
        out = []
        for word, of in (("EDS", "CDS"), ("RDS", "LDS")):
            wanted = set(self.has[of]) | (self.draining.keys() if of == "LDS" else set())
            new, old = wanted - self.subscribed[word], self.subscribed[word] - wanted
            if new or old:
                out.append(
                    discovery_v3.DeltaDiscoveryRequest(
                        type_url=TYPES[word],
                        resource_names_subscribe=sorted(new),
                        resource_names_unsubscribe=sorted(old),
                    )
                )
            for name in old:
                self.has[word].pop(name, None)
                self.confirmed[word].pop(name, None)
            self.subscribed[word] = wanted
        return out


class Conversation(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.envoy = Envoy()
        self.wanted = EMPTY
        self.broken_clusters: set[str] = set()
        self.hurried = False
        self.stream = Stream("sidecar~shop~cart", self.wanted, self.now)
        self.connect()

    def connect(self) -> None:
        self.stream = Stream("sidecar~shop~cart", self.wanted, self.now, self.stream.uncertain())
        self.to_server: deque[Any] = deque(self.envoy.connect())
        self.to_envoy: deque[bytes] = deque()

    @rule(wanted=snapshots())
    def publish(self, wanted: Snapshot) -> None:
        self.wanted = wanted
        for name, built in wanted.of(TYPES["CDS"]).items():
            if PUBLISHED[name, built.version] == BAD:
                self.broken_clusters.add(name)
        self.to_envoy += self.stream.publish(wanted, self.now)

    @rule(steps=st.integers(1, 4))
    def server_reads(self, steps: int) -> None:
        for _ in range(min(steps, len(self.to_server))):
            self.to_envoy += self.stream.receive(self.to_server.popleft(), self.now)

    @rule(steps=st.integers(1, 4))
    def envoy_reads(self, steps: int) -> None:
        for _ in range(min(steps, len(self.to_envoy))):
            self.take(discovery_v3.DeltaDiscoveryResponse.FromString(self.to_envoy.popleft()))

    @rule()
    def break_the_connection(self) -> None:
        self.connect()

    @rule(seconds=st.sampled_from([0.01, 1, 25]))
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.hurried |= timedelta(seconds=seconds) > ACK_DEADLINE
        self.to_server += self.envoy.drained(self.now)
        self.to_envoy += self.stream.tick(self.now)

    def take(self, response: Any) -> None:
        if not self.hurried:
            self.check_make_before_break(response)
        self.to_server += self.envoy.take(response, self.now)

    def check_make_before_break(self, response: Any) -> None:
        word = WORDS[response.type_url]
        if word == "RDS":
            for resource in response.resources:
                used = cluster_of(resource.name, resource.version)
                assert used in self.broken_clusters or (
                    used in self.envoy.has["CDS"] and used not in self.envoy.warming
                )
        assert word in ("CDS", "LDS") or all(name not in self.envoy.has[word] for name in response.removed_resources)
        if word == "CDS":
            in_use = {cluster_of(name, version) for name, version in self.envoy.has["RDS"].items()}
            assert in_use.isdisjoint(response.removed_resources)

    @invariant()
    def status_tells_the_truth(self) -> None:
        if self.stream.status().in_sync and not self.to_envoy:
            for word in MAKERS:
                wanted = {name: built.version for name, built in self.wanted.of(TYPES[word]).items()}
                has = self.envoy.has[word]
                assert wanted.items() <= has.items()
                # What drains, or lingers, is more than there should be; listeners are not.
                assert word != "LDS" or has == wanted

    def teardown(self) -> None:
        """Let everybody finish: Envoy has the snapshot, but for what it refuses."""
        for _ in range(1000):
            if not (self.to_envoy or self.to_server or self.envoy.held_back):
                if self.stream.next_deadline is None and not self.envoy.draining:
                    break
                self.wait(1)
                continue
            if not (self.to_envoy or self.to_server):
                # Only initial_fetch_timeout helps: endpoints that Envoy refused are not sent again when their cluster
                # changes, and a cluster whose stream broke as it warmed may be gone from the newest snapshot.
                unmended = {r.name for r in self.stream.status().refusals if r.type_url == TYPES["EDS"]}
                assert {name for name in self.envoy.warming if name in self.wanted.of(TYPES["CDS"])} <= unmended
                self.to_server += self.envoy.warm()
            self.envoy_reads(1)
            self.server_reads(1)
        assert not self.to_envoy
        assert not self.to_server
        assert self.stream.next_deadline is None
        status = self.stream.status()
        refused = {(WORDS[r.type_url], r.name) for r in status.refusals}
        for word in MAKERS:
            wanted = {name: built.version for name, built in self.wanted.of(TYPES[word]).items()}
            if word in self.envoy.subscribed:
                wanted = {name: version for name, version in wanted.items() if name in self.envoy.subscribed[word]}
            bad = {name for name, version in wanted.items() if PUBLISHED[name, version] % 10 == BAD}
            assert bad == {name for of, name in refused if of == word}
            has = {name: version for name, version in self.envoy.has[word].items() if name not in bad}
            keeps = word in ("CDS", "EDS") and any(of in ("LDS", "RDS") for of, _ in refused)
            if keeps:
                has = {name: version for name, version in has.items() if name in wanted}
            assert has == {name: version for name, version in wanted.items() if name not in bad}
            allowed = {SyncState.ERROR} if bad else {SyncState.SYNCED}
            if keeps and not bad:
                allowed.add(SyncState.STALE)
            if word in self.envoy.subscribed and not wanted:
                allowed.add(SyncState.NOT_SENT)
            assert status.types[TYPES[word]].state in allowed
        assert status.in_sync is (not refused)


Conversation.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestConversation = Conversation.TestCase


def test_the_model_reads_what_it_is_sent() -> None:
    built = made("RDS", "l0", 12)
    assert cluster_of("l0", built.version) == "c1"
    assert message(built).max_direct_response_body_size_bytes.value == 12  # type: ignore[attr-defined]
