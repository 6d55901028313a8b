"""A stream's playbook: what the proxy says, and what it hears, in short words (``CDS +orders``, ``RDS -web``)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from isthmus.ads.stream import Stream
from isthmus.diag import Origin, Ref, Source
from isthmus.envoy_api import any_of, duration
from isthmus.envoy_api.packages import cluster_v3, core_v3, discovery_v3, endpoint_v3, listener_v3, route_v3
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, SECRET, Built, build, snapshot

TYPES = {"CDS": CLUSTER, "EDS": ENDPOINT, "ECDS": EXTENSION, "LDS": LISTENER, "RDS": ROUTE, "SDS": SECRET}
WORDS = {type_url: word for word, type_url in TYPES.items()}
START = datetime(2026, 1, 1, tzinfo=UTC)


def origin(name: str, line: int = 1) -> tuple[Origin, ...]:
    return (Origin(Ref("VirtualService", "shop", name), Source("shop.yaml", line, 1)),)


def cluster(name: str, content: int = 1) -> Built:
    return build(name, cluster_v3.Cluster(name=name, connect_timeout=duration(timedelta(seconds=content))))


def endpoint(name: str, content: int = 1) -> Built:
    policy = endpoint_v3.ClusterLoadAssignment.Policy(overprovisioning_factor={"value": content})
    return build(name, endpoint_v3.ClusterLoadAssignment(cluster_name=name, policy=policy))


def listener(name: str, content: int = 1, line: int = 1) -> Built:
    return build(name, listener_v3.Listener(name=name, stat_prefix=f"v{content}"), origin(name, line))


def route(name: str, content: int = 1, line: int = 1) -> Built:
    message = route_v3.RouteConfiguration(name=name, max_direct_response_body_size_bytes={"value": content})
    return build(name, message, origin(name, line))


def extension(name: str, content: int = 1) -> Built:
    packed = any_of(duration(timedelta(seconds=content)))
    return build(name, core_v3.TypedExtensionConfig(name=name, typed_config=packed))


MAKERS = {"CDS": cluster, "EDS": endpoint, "LDS": listener, "RDS": route}


@dataclass(slots=True)
class Playbook:
    """One proxy and its stream, on a clock that only :meth:`wait` moves."""

    stream: Stream
    now: datetime = START
    responses: dict[str, deque[Any]] = field(default_factory=dict)
    """Responses that the proxy has not answered, by word, the oldest first."""

    def ask(
        self,
        word: str,
        *names: str,
        drop: Iterable[str] = (),
        known: Mapping[str, str] | None = None,
        nonce: str = "",
    ) -> list[str]:
        """A request that subscribes to ``names`` and unsubscribes from ``drop``."""
        request = discovery_v3.DeltaDiscoveryRequest(
            type_url=TYPES[word],
            resource_names_subscribe=names,
            resource_names_unsubscribe=drop,
            initial_resource_versions=known or {},
            response_nonce=nonce,
        )
        return self.hear(self.stream.receive(request, self.now))

    def ack(self, word: str) -> list[str]:
        """Take the oldest response of the type that is not answered."""
        response = self.responses[word].popleft()
        request = discovery_v3.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        return self.hear(self.stream.receive(request, self.now))

    def nack(self, word: str, message: str = "bad") -> list[str]:
        """Refuse the oldest response of the type that is not answered."""
        response = self.responses[word].popleft()
        request = discovery_v3.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        request.error_detail.code = 13
        request.error_detail.message = message
        return self.hear(self.stream.receive(request, self.now))

    def publish(self, *builts: Built) -> list[str]:
        return self.hear(self.stream.publish(snapshot(builts), self.now))

    def wait(self, seconds: float) -> list[str]:
        self.now += timedelta(seconds=seconds)
        return self.hear(self.stream.tick(self.now))

    def hear(self, encoded: Iterable[bytes]) -> list[str]:
        heard = []
        for each in encoded:
            response = discovery_v3.DeltaDiscoveryResponse.FromString(each)
            word = WORDS[response.type_url]
            self.responses.setdefault(word, deque()).append(response)
            gone = [f"-{name}" for name in response.removed_resources]
            heard.append(" ".join([word, *(f"+{resource.name}" for resource in response.resources), *gone]))
        return heard

    def state(self, word: str) -> str:
        return self.stream.status().types[TYPES[word]].state.value

    def refusals(self) -> list[str]:
        return [str(refusal) for refusal in self.stream.status().refusals]


def playbook(*builts: Built) -> Playbook:
    """A proxy that has just connected and said nothing yet."""
    return Playbook(Stream("gateway~shop~web", snapshot(builts), START))


def settled(*builts: Built) -> Playbook:
    """A proxy that has asked for everything in ``builts``, been told, and taken it."""
    book = playbook(*builts)
    names = {word: [built.name for built in builts if built.type_url == TYPES[word]] for word in TYPES}
    book.ask("CDS")
    if names["EDS"]:
        book.ask("EDS", *names["EDS"])
        book.ack("EDS")
    book.ack("CDS")
    book.ask("LDS")
    if names["RDS"]:
        book.ask("RDS", *names["RDS"])
        book.ack("RDS")
    book.ack("LDS")
    assert book.stream.status().in_sync
    assert not any(book.responses.values())
    return book
