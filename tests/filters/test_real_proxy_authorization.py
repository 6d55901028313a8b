from __future__ import annotations

import pytest

from isthmus.filters.proxy_authorization import (
    POLICY,
    PROXY_AUTHORIZATION,
    ProxyAuthorization,
    local_reply_mapper,
)
from isthmus.filters.rbac import DENY, Deny, NamedRule
from isthmus.filters.router import ROUTER, Router
from isthmus.model.match import Prefix
from isthmus.model.predicate import Path

from .running import Web, backend, cluster, forward, raw, running

pytestmark = pytest.mark.real

_CREDENTIAL = "Basic dzpzZWNyZXQ="


@pytest.fixture(scope="module")
def app():
    with backend() as started:
        yield started


@pytest.fixture(scope="module")
def envoy(tmp_path_factory, app):
    chain = [
        *PROXY_AUTHORIZATION.build(ProxyAuthorization(_CREDENTIAL)),
        *DENY.build(Deny((NamedRule("secret", Path(Prefix("/secret"))),))),
        *ROUTER.build(Router()),
    ]
    log = {"case": "%REQ(:PATH)%", "details": "%RESPONSE_CODE_DETAILS%"}
    web = Web("proxy", chain, [forward("/", "app")], log=log, local_replies=local_reply_mapper())
    with running(tmp_path_factory.mktemp("proxy"), [web], [cluster("app", app.port)]) as started:
        yield started


def test_its_own_workload_passes_and_the_upstream_never_sees_the_credential(envoy, app):
    response = envoy.get("proxy", headers={"proxy-authorization": _CREDENTIAL, "x-own": "1"})
    assert response.status_code == 200
    assert dict(response.json())["x-own"] == "1"
    # Two values: one is right, so the request passes; neither may go on.
    doubled = [("proxy-authorization", _CREDENTIAL), ("proxy-authorization", "Basic b3RoZXI=")]
    assert envoy.get("proxy", headers=doubled).status_code == 200
    assert app.seen
    assert not [name for request in app.seen for name, _ in request if name == "proxy-authorization"]


@pytest.mark.parametrize("sent", [{}, {"proxy-authorization": "Basic b3RoZXI="}, {"authorization": _CREDENTIAL}])
def test_anybody_else_is_asked_to_authenticate(envoy, app, sent):
    before = len(app.seen)
    response = envoy.get("proxy", "/stranger", headers=sent)
    assert response.status_code == 407
    assert response.headers["proxy-authenticate"] == 'Basic realm="isthmus"'
    assert len(app.seen) == before
    assert envoy.logged("/stranger")["/stranger"]["details"] == f"rbac_access_denied_matched_policy[{POLICY}]"


def test_connect_without_the_credential_is_refused_the_same_way(envoy):
    answer = raw(envoy.ports["proxy"], b"CONNECT orders.shop:8080 HTTP/1.1\r\nHost: orders.shop:8080\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 407 ")


def test_other_denials_stay_what_they_are(envoy):
    response = envoy.get("proxy", "/secret", headers={"proxy-authorization": _CREDENTIAL})
    assert response.status_code == 403
    assert "proxy-authenticate" not in response.headers
