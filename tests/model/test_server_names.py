from __future__ import annotations

import pytest

from isthmus.diag import Origin, Ref, Source
from isthmus.model.cluster import Protocol, Resolution, Service
from isthmus.model.server_names import ServerNames
from isthmus.model.traffic_policy import ClientTls, TlsMode

SIMPLE = TlsMode.SIMPLE
ORIGIN = Origin(Ref("ServiceEntry", "shop", "api"), Source("test.yaml", 1, 1))


def names(tls: ClientTls, host: str = "api.example.com", *alternatives: str) -> ServerNames:
    service = Service(host, "shop", (), Resolution.DNS, ORIGIN, subject_alt_names=alternatives)
    return ServerNames.of(service, tls)


@pytest.mark.parametrize(
    ("found", "sni", "certified"),
    [
        (names(ClientTls(SIMPLE)), "api.example.com", ("api.example.com",)),
        (names(ClientTls(SIMPLE, sni="a.b")), "a.b", ("a.b",)),
        (names(ClientTls(SIMPLE, sni="a.b", subject_alt_names=("c.d",))), "a.b", ("c.d",)),
        (names(ClientTls(SIMPLE), "api.example.com", "e.f"), "api.example.com", ("e.f",)),
        (names(ClientTls(SIMPLE, subject_alt_names=("c.d",)), "api.example.com", "e.f"), "api.example.com", ("c.d",)),
        (names(ClientTls(SIMPLE), "*.example.com"), None, ()),
        (names(ClientTls(SIMPLE, skip_verify=True)), "api.example.com", ()),
    ],
)
def test_the_closest_word_counts(found: ServerNames, sni: str | None, certified: tuple[str, ...]) -> None:
    assert (found.sni, found.certified) == (sni, certified)


def test_behind_a_wildcard_only_requests_have_names() -> None:
    wild = names(ClientTls(SIMPLE), "*.example.com")
    assert wild.of_request(Protocol.HTTP)
    assert wild.verifiable(Protocol.HTTP)
    assert not wild.of_request(Protocol.TCP)
    assert not wild.verifiable(Protocol.TCP)
    said = names(ClientTls(SIMPLE, subject_alt_names=("c.d",)), "*.example.com")
    assert said.verifiable(Protocol.TCP)
    assert not names(ClientTls(SIMPLE)).of_request(Protocol.HTTP)
