"""CUSTOM on a real Envoy: who is asked, what the provider sees, and what its answer may change."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from isthmus.diag import Origin, Ref, Source
from isthmus.envoy_api.packages import core_v3, ext_authz_service_v3, status, type_v3
from isthmus.filters.ext_authz import CUSTOM, Custom, CustomProvider, custom_log_fields
from isthmus.filters.rbac import NamedRule
from isthmus.filters.router import ROUTER, Router
from isthmus.model.match import Prefix
from isthmus.model.predicate import Path
from isthmus.model.settings import ExtAuthz, RequestBody

from .running import Web, backend, cluster, forward, running

pytestmark = pytest.mark.real

_ORIGIN = Origin(Ref("ConfigMap", "istio-system", "istio"), Source("mesh.yaml", 1, 1))
_SET = ("x-user", "x-forwarded-client-cert", "x-envoy-original-path")
_HTTP = ExtAuthz(
    name="login",
    host="authz.shop",
    port=80,
    grpc=False,
    origin=_ORIGIN,
    path_prefix="/check",
    include_request_headers=("Cookie", "x-ask-*"),
    include_additional_headers=(("x-static", "1"),),
    include_body=RequestBody(16, allow_partial=True, as_bytes=False),
    headers_to_upstream=_SET,
    headers_to_downstream_on_deny=("x-reason",),
    headers_to_downstream_on_allow=("x-seen",),
)
_GRPC = ExtAuthz("opa", "opa.shop", 9191, grpc=True, origin=_ORIGIN)


def _provider(provider, to, path):
    return CustomProvider(provider, to, (NamedRule(f"ask-{provider.name}", Path(Prefix(path))),))


class _Check:
    """The gRPC service: consents to all but the header ``x-bad``."""

    def __init__(self):
        self.asked = []

    def __call__(self, request, _context):
        self.asked.append(request)
        response = ext_authz_service_v3.CheckResponse()
        if "x-bad" in request.attributes.request.http.headers:
            response.status.CopyFrom(status.Status(code=7))
            response.denied_response.status.CopyFrom(type_v3.HttpStatus(code=418))
            return response
        response.status.CopyFrom(status.Status(code=0))
        for name in _SET:
            header = core_v3.HeaderValue(key=name, value="opa")
            response.ok_response.headers.append(core_v3.HeaderValueOption(header=header))
        return response


@pytest.fixture(scope="module")
def check():
    service = _Check()
    handler = grpc.unary_unary_rpc_method_handler(
        service,
        request_deserializer=ext_authz_service_v3.CheckRequest.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
    server = grpc.server(ThreadPoolExecutor(2))
    methods = grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": handler})
    server.add_generic_rpc_handlers((methods,))
    service.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service
    server.stop(None).wait()


@pytest.fixture(scope="module")
def authz():
    with backend() as started:
        yield started


@pytest.fixture(scope="module")
def envoy(tmp_path_factory, authz, check):
    with socket.socket() as unheard, backend() as app:
        unheard.bind(("127.0.0.1", 0))  # bound, never listening: refuses
        dead = ExtAuthz("dead", "d", 1, grpc=False, origin=_ORIGIN, status_on_error=503)
        failing_open = ExtAuthz("open", "d", 1, grpc=True, origin=_ORIGIN, fail_open=True)
        both = Custom((_provider(_HTTP, "authz", "/http"), _provider(_GRPC, "opa", "/http/grpc")))
        router = ROUTER.build(Router())
        to_app = [forward("/", "app")]
        log = {"case": "%REQ(:PATH)%", "details": "%RESPONSE_CODE_DETAILS%", **custom_log_fields(both)}
        webs = [
            Web("both", [*CUSTOM.build(both), *router], to_app, log),
            Web("dead", [*CUSTOM.build(Custom((_provider(dead, "dead", "/ask"),))), *router], to_app),
            Web("open", [*CUSTOM.build(Custom((_provider(failing_open, "dead-grpc", "/ask"),))), *router], to_app),
        ]
        clusters = [
            cluster("app", app.port),
            cluster("authz", authz.port),
            cluster("opa", check.port, http2=True),
            cluster("dead", unheard.getsockname()[1]),
            cluster("dead-grpc", unheard.getsockname()[1], http2=True),
        ]
        with running(tmp_path_factory.mktemp("custom"), webs, clusters) as started:
            yield started


@pytest.fixture(autouse=True)
def _fresh(authz, check):
    authz.seen.clear()
    check.asked.clear()
    authz.status, authz.headers = 200, {}


def test_only_what_a_rule_matches_is_asked_about(envoy, authz, check):
    assert envoy.get("both", "/other").status_code == 200
    assert (authz.seen, check.asked) == ([], [])
    assert envoy.get("both", "/http").status_code == 200
    assert (len(authz.seen), len(check.asked)) == (1, 0)


def test_two_providers_that_match_are_both_asked_and_each_can_refuse(envoy, authz, check):
    assert envoy.get("both", "/http/grpc").status_code == 200
    assert (len(authz.seen), len(check.asked)) == (1, 1)
    assert envoy.get("both", "/http/grpc/bad", headers={"x-bad": "1"}).status_code == 418
    authz.status = 401
    assert envoy.get("both", "/http/grpc").status_code == 401
    line = envoy.logged("/http/grpc/bad")["/http/grpc/bad"]
    assert line["details"] == "ext_authz_denied"
    assert (line["custom_policy_0"], line["custom_policy_1"]) == ("ask-login", "ask-opa")


def test_the_http_provider_sees_what_the_settings_say(envoy, authz):
    sent = {"cookie": "a=b", "x-ask-1": "1", "x-other": "2", "authorization": "Bearer t"}
    envoy.get("both", "/http/x?q=1", "POST", headers=sent, content=b"body")
    (seen,) = authz.seen
    headers = dict(seen)
    assert (headers[":path"], headers[":method"]) == ("/check/http/x?q=1", "POST")
    assert {name: headers[name] for name in ("cookie", "x-ask-1", "x-static", "authorization")} == {
        "cookie": "a=b",
        "x-ask-1": "1",
        "x-static": "1",
        "authorization": "Bearer t",
    }
    assert "x-other" not in headers
    assert headers["content-length"] == "4"


def test_what_the_answer_changes(envoy, authz):
    authz.headers = dict.fromkeys((*_SET, "x-seen", "x-reason", "x-more"), "login")
    spoofed = {"x-user": "root"}
    response = envoy.get("both", "/http", headers=spoofed)
    upstream = [(name, value) for name, value in response.json() if name in (*_SET, "x-more")]
    assert upstream == [("x-user", "login")]
    assert response.headers["x-seen"] == "login"
    assert "x-more" not in response.headers
    authz.status = 403
    denied = envoy.get("both", "/http", headers=spoofed)
    assert (denied.status_code, denied.headers["x-reason"]) == (403, "login")
    assert "x-more" not in denied.headers


def test_nor_may_the_grpc_provider_set_an_identity(envoy):
    seen = envoy.get("both", "/http/grpc").json()
    assert [(name, value) for name, value in seen if name in _SET] == [("x-user", "opa")]


def test_a_provider_that_is_gone_refuses_unless_told_otherwise(envoy):
    assert envoy.get("dead", "/ask").status_code == 503
    assert envoy.get("dead", "/other").status_code == 200
    assert envoy.get("open", "/ask").status_code == 200
