from __future__ import annotations

from datetime import timedelta
from typing import Any

from isthmus.envoy_api import unpack
from isthmus.model.client_traffic import ClientValidation
from isthmus.model.gateway import ServerTls, ServerTlsMode
from isthmus.model.ocsp_question import HEADER, OcspQuestion
from isthmus.model.revocation import ClientCrls, ClientOcsp, CrlPoints, OcspMode
from isthmus.model.world import World
from isthmus.xds.client_ocsp import client_ocsp_filters, longest_connection

OCSP = ClientOcsp(OcspMode.REQUIRED, "http://ca.example/%41", timedelta(seconds=2), timedelta(minutes=5))
POINTS = CrlPoints(("http://ca.example/crl",))


def tls(ocsp: ClientOcsp | None = OCSP, points: CrlPoints | None = None) -> ServerTls:
    validation = ClientValidation(ocsp=ocsp, crl_points=points)
    return ServerTls(ServerTlsMode.MUTUAL, ("cert",), "clients", validation=validation)


def test_the_agent_is_asked_and_its_absence_is_a_no() -> None:
    [found] = client_ocsp_filters(tls(), "shop", World())
    config: Any = unpack(found.typed_config)
    assert (config.failure_mode_allow, config.include_peer_certificate, config.send_tls_alert_on_denial) == (
        False,
        True,
        True,
    )
    service = config.grpc_service
    assert (service.envoy_grpc.cluster_name, service.timeout.ToTimedelta()) == ("sds", timedelta(seconds=3))
    [metadata] = service.initial_metadata
    assert metadata.key == HEADER
    assert OcspQuestion.decode(metadata.value) == OcspQuestion("credential-ca:shop/clients", OCSP)


def test_the_issuers_are_those_of_the_secret_in_force() -> None:
    world = World(crls={("credential-ca:shop/clients", POINTS): ClientCrls("gen", "1", b"")})
    [found] = client_ocsp_filters(tls(points=POINTS), "shop", world)
    config: Any = unpack(found.typed_config)
    question = OcspQuestion.decode(config.grpc_service.initial_metadata[0].value)
    assert question.authorities == "credential-ca:shop/clients~crl:gen"


def test_without_a_policy_nobody_is_asked() -> None:
    assert client_ocsp_filters(tls(None), "shop", World()) == ()


def test_connections_live_on_an_answer_no_longer_than_it_may_be_old() -> None:
    assert longest_connection(tls(), World()) == timedelta(minutes=5)
    assert longest_connection(tls(None), World()) == timedelta(minutes=15)
    assert longest_connection(None, World()) is None
