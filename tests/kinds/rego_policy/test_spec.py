from __future__ import annotations

import json
from datetime import timedelta

import pytest
from tests.kinds.traffic_manifest import EDGE, ORDERS, Compiled, compiled

from isthmus.kinds.rego_policy import PROVIDER_TWICE
from isthmus.model.attachment import Attachment, Target, TargetKind
from isthmus.model.rego import RegoPolicy
from isthmus.model.settings import RequestBody

REGO = "rego: package envoy.authz"
WORKLOAD = """\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: orders-1, namespace: shop}
spec: {address: 127.0.0.1, labels: {app: orders}, ports: {http: 8080}}
"""


def declared(spec: str, name: str = "authz", *more: str) -> Compiled:
    body = spec.strip().replace("\n", "\n  ")
    head = "apiVersion: isthmus.dev/v1alpha1\nkind: RegoPolicy\n"
    return compiled(
        f"{head}metadata: {{name: {name}, namespace: shop}}\nspec:\n  {body}\n", ORDERS, WORKLOAD, EDGE, *more
    )


def policy(done: Compiled) -> RegoPolicy:
    (found,) = done.mesh.policies.rego
    assert isinstance(found, RegoPolicy)
    return found


def test_every_field_is_read() -> None:
    done = declared(
        f"""
{REGO}
targetRefs: [{{kind: Gateway, name: edge, sectionName: http}}]
path: authz/decide
data: {{owners: [alice], deep: {{n: 1.5}}}}
withRequestBody: {{maxRequestBytes: 8192, allowPartialMessage: true, packAsBytes: true}}
timeout: 2s
dryRun: true
"""
    )
    assert done.found == []
    found = policy(done)
    assert found.attachment == Attachment(None, (Target(TargetKind.GATEWAY, "shop", "edge", "http"),))
    assert (found.path, found.timeout, found.dry_run) == ("authz/decide", timedelta(seconds=2), True)
    assert json.loads(found.data) == {"owners": ["alice"], "deep": {"n": 1.5}}
    assert found.body == RequestBody(8192, allow_partial=True, as_bytes=True)
    assert [(module.file, module.text) for module in found.modules] == [("shop/authz.rego", "package envoy.authz")]


def test_the_defaults_are_those_of_opa_envoy() -> None:
    found = policy(declared(f"{REGO}\nselector: {{matchLabels: {{app: orders}}}}"))
    assert (found.path, found.data, found.body, found.dry_run) == ("envoy/authz/allow", "{}", None, False)
    assert (found.bundle, found.log, found.provider) == (None, None, None)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("path: envoy/authz/allow", "written under rego, or comes from a bundle"),
        (f"{REGO}\nbundle: {{file: a.tar.gz}}", "written under rego, or comes from a bundle"),
        ("bundle: {file: a.tar.gz}\ndata: {a: 1}", "a bundle brings its own data"),
        (f"{REGO}\npath: data.envoy.authz.allow", "is no path of a rule"),
        (f"{REGO}\ndata: [1]", "data is an object"),
        (f"{REGO}\nwithRequestBody: {{}}", "maxRequestBytes"),
        (f"{REGO}\nwithRequestBody: {{maxRequestBytes: 0}}", "at least 1"),
        (f"{REGO}\nwithRequestBody: {{maxRequestBytes: 2000000}}", "at most 1048576"),
        (f"{REGO}\ntimeout: 2m", "longer than 60s"),
        (f"{REGO}\nfailOpen: true", "failOpen"),
        (f"{REGO}\nprovider: opa\nselector: {{matchLabels: {{app: orders}}}}", "one of them"),
    ],
)
def test_what_cannot_be_meant_is_refused(spec: str, said: str) -> None:
    done = declared(spec)
    assert said in done.messages
    assert done.mesh.policies.rego == ()


def test_custom_policies_ask_it_by_name() -> None:
    done = declared(f"{REGO}\nprovider: opa\ntimeout: 1s")
    assert policy(done).attachment == Attachment()
    provider = done.mesh.settings.provider("opa")
    assert provider is not None
    assert (provider.rego, provider.grpc, provider.status_on_error) == ("shop/authz", True, 503)
    assert (provider.timeout, provider.fail_open) == (timedelta(seconds=1), False)
    asking = (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: ask, namespace: shop}\n"
        "spec: {selector: {matchLabels: {app: orders}}, action: CUSTOM, provider: {name: opa}, rules: [{}]}\n"
    )
    assert declared(f"{REGO}\nprovider: opa", "authz", asking).found == []


def test_a_name_is_one_providers() -> None:
    config = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n"
        "    extensionProviders:\n    - name: opa\n"
        "      envoyExtAuthzGrpc: {service: orders.shop.svc.cluster.local, port: 80}\n"
    )
    done = declared(f"{REGO}\nprovider: opa", "authz", config)
    assert done.found == [f"6:13 error {PROVIDER_TWICE.id}"]  # ISM2381
    provider = done.mesh.settings.provider("opa")
    assert provider is not None
    assert provider.rego is None


def test_whoever_comes_first_does_not_decide_for_others() -> None:
    """Else one namespace's policy would decide what another's CUSTOM policies ask."""
    head = "apiVersion: isthmus.dev/v1alpha1\nkind: RegoPolicy\nmetadata: {name: authz, namespace: other}\n"
    again = f"{head}spec: {{provider: opa, rego: package envoy.authz}}\n"
    done = declared(f"{REGO}\nprovider: opa", "authz", again)
    assert [line.partition(" ")[2] for line in done.found] == [f"error {PROVIDER_TWICE.id}"] * 2
    assert done.mesh.settings.provider("opa") is None
