"""What the tests of DestinationRules share: one rule at each level, and programs that tell how they were reached."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import httpx
import pytest

from tests.real.fields import enforces
from tests.real.traffic import Caller, Manifest, manifest, routes, to
from tests.real.up import Up, eventually

RULED_PORT, OTHER_PORT = 80, 81
SUBSET = "all"
FRONT = "sidecar~shop~front"


class Level(Enum):
    """Where in a DestinationRule a policy stands, as the path to its blocks."""

    SERVICE = "trafficPolicy."
    PORT = "trafficPolicy.portLevelSettings[]."
    SUBSET = "subsets[].trafficPolicy."
    SUBSET_PORT = "subsets[].trafficPolicy.portLevelSettings[]."

    @property
    def is_port(self) -> bool:
        return self in (Level.PORT, Level.SUBSET_PORT)

    @property
    def is_subset(self) -> bool:
        return self in (Level.SUBSET, Level.SUBSET_PORT)


def at_every_level(*fields: str) -> pytest.MarkDecorator:
    """Parametrizes ``level``, each marked as showing ``fields`` (below the level) of it."""
    return pytest.mark.parametrize(
        "level", [pytest.param(one, marks=shows(one, *fields), id=one.name.lower()) for one in Level]
    )


def shows(level: Level, *fields: str) -> pytest.MarkDecorator:
    return enforces(*(f"DestinationRule.spec.{level.value}{one}" for one in fields))


@dataclass(frozen=True, slots=True)
class Case:
    """A policy for services of its own, one for each level.

    ``endpoints``: those of the service, as ServiceEntries write them. ``route``: more fields of its routes.
    """

    name: str
    policy: Manifest
    endpoints: tuple[Manifest, ...]
    protocol: str = "HTTP"
    route: Manifest = field(default_factory=dict)
    levels: tuple[Level, ...] = tuple(Level)
    host: str = ""

    def host_at(self, level: Level) -> str:
        return self.host or f"{self.name}-{level.name.lower().replace('_', '-')}.example.com"

    def url(self, level: Level, *, ruled: bool = True) -> str:
        """Where the policy holds, or where the same service is without it: another port, or outside the subset.

        For a rule of the whole service there is no such place: then it is the service of PORT at its other port.
        """
        if ruled:
            return f"http://{self.host_at(level)}:{RULED_PORT}/ruled"
        if level is Level.SERVICE:
            return f"http://{self.host_at(Level.PORT)}:{OTHER_PORT}/ruled"
        if level.is_port:
            return f"http://{self.host_at(level)}:{OTHER_PORT}/ruled"
        return f"http://{self.host_at(level)}:{RULED_PORT}/other"

    def cluster(self, level: Level) -> str:
        return f"outbound|{RULED_PORT}|{SUBSET if level.is_subset else ''}|{self.host_at(level)}"

    def manifests(self, *levels: Level) -> Iterator[Manifest]:
        for level in levels or self.levels:
            host = self.host_at(level)
            name = host.removesuffix(".example.com").replace("*", "any").replace(".", "-")
            yield self._entry(name, host)
            yield manifest("DestinationRule", name, {"host": host, **self._rule(level)})
            if level.is_subset or self.route:
                yield routes(name, [host], *self._routes(host, level))

    def _entry(self, name: str, host: str) -> Manifest:
        ports = [
            {"number": number, "name": label, "protocol": self.protocol}
            for number, label in ((RULED_PORT, "one"), (OTHER_PORT, "two"))
        ]
        endpoints = [
            {"labels": {"all": "yes"}, "address": "127.0.0.1", **one, "ports": {"one": one["port"], "two": one["port"]}}
            for one in self.endpoints
        ]
        for one in endpoints:
            del one["port"]
        spec = {"hosts": [host], "ports": ports, "resolution": "STATIC", "location": "MESH_EXTERNAL"}
        return manifest("ServiceEntry", name, {**spec, "endpoints": endpoints})

    def _rule(self, level: Level) -> Manifest:
        policy = self.policy
        if level.is_port:
            policy = {"portLevelSettings": [{"port": {"number": RULED_PORT}, **policy}]}
        if level.is_subset:
            return {"subsets": [{"name": SUBSET, "labels": {"all": "yes"}, "trafficPolicy": policy}]}
        return {"trafficPolicy": policy}

    def _routes(self, host: str, level: Level) -> Iterator[Manifest]:
        for port in (RULED_PORT, OTHER_PORT):
            if level.is_subset:
                match = [{"uri": {"prefix": "/ruled"}, "port": port}]
                yield {"match": match, "route": [to(host, port, SUBSET)], **self.route}
            yield {"match": [{"port": port}], "route": [to(host, port)], **self.route}


@dataclass(slots=True)
class Request:
    """What a server saw: on which of its connections, and how."""

    connection: int
    peer: int
    """The client's port."""
    path: str
    server_name: str | None = None
    client: str | None = None
    """The common name of the client's certificate."""
    headers: dict[str, str] = field(default_factory=dict)


class Server:
    """HTTP/1.1 by hand, so that a test sees connections: how many there are at a time, and when each ends.

    ``answer`` gives a status for a path, and may take its time. With ``tls``, it speaks that.
    """

    def __init__(self, answer: Callable[[Request], int] = lambda saw: 200, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Request] = []
        self.ended: dict[int, float] = {}
        """By connection: when its client closed it (monotonic)."""
        self.prefaces: list[bytes] = []
        """The first line of each connection, as they come."""
        self.busy = 0
        self.busiest = 0
        self.last: dict[int, float] = {}
        """By connection: when its last answer began."""
        self._answer = answer
        self._tls = tls
        self._names: dict[ssl.SSLObject | ssl.SSLSocket, str | None] = {}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        if tls is not None:
            tls.sni_callback = lambda sock, name, context: self._names.__setitem__(sock, name)

    @property
    def endpoint(self) -> Manifest:
        return {"port": self.port}

    def __enter__(self) -> Server:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        number = 0
        with contextlib.suppress(OSError):
            while True:
                connection, (_, peer) = self._listener.accept()
                number += 1
                threading.Thread(target=self._serve, args=(connection, number, peer), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int, peer: int) -> None:
        name = client = None
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            if self._tls is not None:
                secured = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
                name, client = self._names.pop(secured, None), _common_name(secured.getpeercert())
                connection = secured
            self._converse(connection, number, Request(number, peer, "", name, client))
        self.ended[number] = time.monotonic()

    def _converse(self, connection: socket.socket, number: int, about: Request) -> None:
        stream, first = connection.makefile("rb"), True
        while line := stream.readline():
            if first:
                self.prefaces.append(line)
                first = False
            if line.startswith(b"PRI "):
                return
            headers: dict[str, str] = {}
            while (header := stream.readline()) not in (b"\r\n", b""):
                key, _, value = header.decode("latin-1").partition(":")
                headers[key.lower()] = value.strip()
            stream.read(int(headers.get("content-length", 0)))
            saw = Request(number, about.peer, line.split()[1].decode(), about.server_name, about.client, headers)
            with self._lock:
                self.seen.append(saw)
                self.busy += 1
                self.busiest = max(self.busiest, self.busy)
            try:
                status = self._answer(saw)
            finally:
                with self._lock:
                    self.busy -= 1
            body = json.dumps({"port": self.port, "connection": number, "client": saw.client}).encode()
            head = (
                f"HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            self.last[number] = time.monotonic()
            connection.sendall(head.encode() + body)


def _common_name(certificate: Any) -> str | None:
    pairs = [pair for part in (certificate or {}).get("subject", ()) for pair in part]
    return next((value for key, value in pairs if key == "commonName"), None)


def marked(url: str) -> tuple[str, str]:
    """``url`` with a mark of its own in its path, and the mark: what a log says of one request can be found by it."""
    mark = uuid.uuid4().hex
    return f"{url}/{mark}", mark


def logged(up: Up, mark: str, proxy: str = FRONT) -> dict[str, Any]:
    """The line of the access log of the request with ``mark``."""

    def find() -> dict[str, Any] | None:
        return next((line for line in up.access_log(proxy) if mark in str(line.get("path"))), None)

    found: dict[str, Any] = eventually(find, 30)
    return found


class Gate:
    """Lets nobody's answer out before it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def __call__(self, saw: Request) -> int:
        assert self._open.wait(120)
        return 200

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()


class Together:
    """Requests to ``urls`` at the same time, each on a connection of its own; ``answers`` as they come."""

    def __init__(self, front: Caller, *urls: str) -> None:
        self.answers: list[httpx.Response] = []
        self._front = front
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for url in urls]

    def __enter__(self) -> Together:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._threads:
            one.join()

    def _ask(self, url: str) -> None:
        with httpx.Client(proxy=self._front.env["http_proxy"], timeout=120, trust_env=False, verify=False) as client:
            self.answers.append(client.get(url))

    @property
    def statuses(self) -> list[int]:
        return sorted(one.status_code for one in self.answers)

    def answered(self, count: int) -> None:
        """Wait until so many have their answer."""
        eventually(lambda: len(self.answers) >= count, 60)


def is_overflow(answer: httpx.Response) -> bool:
    """Whether a circuit breaker answered."""
    return answer.status_code == 503 and answer.headers.get("x-envoy-overloaded") == "true"


def clusters(up: Up, workload: str = "front") -> dict[str, dict[str, dict[str, str]]]:
    """What the proxy of ``workload`` knows of its endpoints: by cluster, by address, by name of the value."""
    transport = httpx.HTTPTransport(uds=up.workload(workload)["admin_socket"], verify=False)
    found: dict[str, dict[str, dict[str, str]]] = {}
    with httpx.Client(transport=transport, base_url="http://admin", timeout=20) as admin:
        for line in admin.get("/clusters").text.splitlines():
            cluster, _, rest = line.partition("::")
            address, _, pair = rest.partition("::")
            name, _, value = pair.partition("::")
            found.setdefault(cluster, {}).setdefault(address, {})[name] = value
    return found
