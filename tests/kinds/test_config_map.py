from __future__ import annotations

from datetime import timedelta
from textwrap import indent

import pytest
from traffic_manifest import Compiled, compiled, core

from isthmus.model.settings import OutboundPolicy, PathNormalization, RequestBody, Settings
from isthmus.model.telemetry import CustomTag, FileLog, OpenTelemetry, Prometheus, TagSource, TelemetryDefaults


def mesh(config: str, name: str = "istio", namespace: str = "istio-system") -> Compiled:
    """``config`` begins at 6:5."""
    return compiled(core("ConfigMap", "data:\n  mesh: |\n" + indent(config, "    "), name, namespace))


def test_settings() -> None:
    done = mesh(
        "trustDomain: example.org\nrootNamespace: roots\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\n"
        "pathNormalization: {normalization: MERGE_SLASHES}\n"
        "defaultConfig: {gatewayTopology: {numTrustedProxies: 2}}\n"
    )
    assert done.found == []
    assert done.mesh.settings == Settings(
        trust_domain="example.org",
        root_namespace="roots",
        outbound_policy=OutboundPolicy.REGISTRY_ONLY,
        path_normalization=PathNormalization.MERGE_SLASHES,
        trusted_proxies=2,
    )


def test_aliases_are_other_names_than_the_trust_domains_own() -> None:
    done = mesh("trustDomain: new\ntrustDomainAliases: [old, new, old, older]\n")
    assert done.found == []
    assert done.mesh.settings.trust_domain_aliases == ("old", "older")
    assert done.mesh.settings.trust_domains == ("new", "old", "older")
    assert mesh("trustDomainAliases: [Old]\n").found == ["6:26 error ISM1106"]


def test_snake_case_and_nothing_at_all() -> None:
    done = mesh("trust_domain: example.org\npath_normalization: {normalization: DEFAULT}\n")
    assert done.found == []
    assert done.mesh.settings == Settings(trust_domain="example.org")
    assert mesh("{}\n").mesh.settings == Settings()


def test_an_http_provider() -> None:
    done = mesh(
        """\
extensionProviders:
- name: http
  envoyExtAuthzHttp:
    service: shop/authz
    port: 8000
    timeout: 2s
    pathPrefix: /check
    failOpen: true
    clearRouteCache: true
    statusOnError: "503"
    includeRequestHeadersInCheck: [authorization]
    includeHeadersInCheck: [cookie]
    includeAdditionalHeadersInCheck: {x_kept_as_it_is: "1"}
    includeRequestBodyInCheck: {maxRequestBytes: 1024, allowPartialMessage: true, packAsBytes: true}
    headersToUpstreamOnAllow: [x-user]
    headersToDownstreamOnDeny: [location]
    headersToDownstreamOnAllow: [set-cookie]
"""
    )
    assert done.found == []
    provider = done.mesh.settings.provider("http")
    assert provider is not None
    assert (provider.host, provider.port, provider.grpc) == ("authz.shop.svc.cluster.local", 8000, False)
    assert provider.timeout == timedelta(seconds=2)
    assert provider.path_prefix == "/check"
    assert provider.fail_open
    assert provider.clear_route_cache
    assert provider.status_on_error == 503
    assert provider.include_request_headers == ("authorization", "cookie")
    assert provider.include_additional_headers == (("x_kept_as_it_is", "1"),)
    assert provider.include_body == RequestBody(1024, allow_partial=True, as_bytes=False), "packAsBytes is of gRPC"
    assert provider.headers_to_upstream == ("x-user",)
    assert provider.headers_to_downstream_on_deny == ("location",)
    assert provider.headers_to_downstream_on_allow == ("set-cookie",)
    assert str(provider.origin.source) == "<stdin>:7:7"


def test_a_grpc_provider_by_its_defaults() -> None:
    done = mesh(
        "extensionProviders:\n- name: grpc\n  envoyExtAuthzGrpc: {service: authz.shop.svc.cluster.local, port: 9000}\n"
    )
    assert done.found == []
    provider = done.mesh.settings.provider("grpc")
    assert provider is not None
    assert (provider.host, provider.grpc) == ("authz.shop.svc.cluster.local", True)
    assert (provider.timeout, provider.fail_open, provider.status_on_error) == (timedelta(seconds=600), False, 403)
    assert provider.include_body is None


def test_other_providers_are_warned_about() -> None:
    done = mesh("extensionProviders:\n- name: z\n  zipkin: {service: z, port: 1}\n")
    assert done.found == ["8:7 warning ISM1104"]
    assert done.mesh.settings.ext_authz == ()


@pytest.mark.parametrize("field", ["verifyCertificateAtClient: true"])
def test_fields_without_effect_are_warned_about(field: str) -> None:
    done = mesh(f"{field}\ntrustDomain: example.org\n")
    assert done.found == ["6:5 warning ISM1104"]
    assert done.mesh.settings.trust_domain == "example.org"


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ("trustDomain: Example.org\n", "6:18 error ISM1106"),
        ("rootNamespace: a.b\n", "6:20 error ISM1106"),
        ("trustdomain: x\n", "6:5 error ISM1101"),
        ("outboundTrafficPolicy: {mode: DENY}\n", "6:35 error ISM1106"),
        ("defaultConfig: {gatewayTopology: {numTrustedProxies: -1}}\n", "6:58 error ISM1106"),
        ("meshMTLS: {minProtocolVersion: TLSV1_3}\n", "6:5 error ISM1105"),
        ('defaultServiceExportTo: ["."]\n', "6:29 error ISM1105"),
        ("a: 1\na: 2\n", "7:5 error ISM1003"),
        ("- trustDomain\n", "6:5 error ISM1102"),
        (
            "extensionProviders: [{name: a, envoyExtAuthzGrpc: {service: a, port: 1}}, {name: a}]\n",
            "6:25 error ISM1106",
        ),
        ("extensionProviders: [{name: a, envoyExtAuthzGrpc: {service: a}}]\n", "6:55 error ISM1103"),
        (
            "extensionProviders: [{name: a, envoyExtAuthzGrpc: {service: A/b, port: 1}}]\n",
            "6:65 error ISM1106",
        ),
        (
            "extensionProviders: [{name: a, envoyExtAuthzGrpc: {service: a, port: 1, statusOnError: '99'}}]\n",
            "6:92 error ISM1106",
        ),
    ],
)
def test_configurations_that_cannot_be_read(config: str, found: str) -> None:
    done = mesh(config)
    assert done.found == [found]
    assert done.mesh.settings == Settings()


def test_the_place_of_a_finding_names_the_key() -> None:
    assert mesh("trustdomain: x\n").messages.startswith("data.mesh.trustdomain: ")


@pytest.mark.parametrize(("name", "namespace"), [("istio", "shop"), ("settings", "istio-system")])
def test_other_config_maps_are_of_no_consequence(name: str, namespace: str) -> None:
    done = mesh("trustDomain: example.org\n", name, namespace)
    assert done.found == ["3:18 info ISM2105"]
    assert done.mesh.settings == Settings()


def test_providers_of_telemetry() -> None:
    done = mesh(
        """\
extensionProviders:
- name: otel
  opentelemetry:
    service: observe/otel
    port: 4317
    maxTagLength: 40
    grpc: {initialMetadata: [{name: X-Key, value: k}]}
    resourceDetectors: {environment: {}}
- name: web
  opentelemetry: {service: otel.example.com, port: 4318, http: {path: /v1/traces, timeout: 2s}}
- name: file
  envoyFileAccessLog: {path: /var/log/mesh, logFormat: {labels: {some_id: "%REQ(X-ID)%"}}}
- name: prom
  prometheus: {}
defaultProviders: {tracing: [otel], metrics: [prom], accessLogging: [file, envoy]}
"""
    )
    assert [one for one in done.found if "IST0101" not in one] == [], "there are no services here"
    settings = done.mesh.settings
    otel, web, file, prom = (settings.telemetry_provider(name) for name in ("otel", "web", "file", "prom"))
    assert isinstance(otel, OpenTelemetry)
    assert (otel.host, otel.port, otel.path) == ("otel.observe.svc.cluster.local", 4317, None)
    assert (otel.headers, otel.max_tag_length, otel.environment) == ((("x-key", "k"),), 40, True)
    assert isinstance(web, OpenTelemetry)
    assert (web.host, web.path, web.timeout) == ("otel.example.com", "/v1/traces", timedelta(seconds=2))
    assert isinstance(file, FileLog)
    assert (file.path, file.labels) == ("/var/log/mesh", (("some_id", "%REQ(X-ID)%"),))
    assert isinstance(prom, Prometheus)
    assert settings.telemetry == TelemetryDefaults(("otel",), ("file", "envoy"), ("prom",))
    assert settings.telemetry_provider("envoy") is None


def test_defaults_of_telemetry() -> None:
    done = mesh(
        'accessLogFile: /var/log/mesh\naccessLogFormat: \'{"id": "%REQ(X-ID)%"}\'\naccessLogEncoding: JSON\n'
        "defaultConfig: {tracing: {sampling: 7.5, maxPathTagLength: 30, customTags: {my_tag: {literal: {value: x}}}}}\n"
    )
    assert done.found == []
    found = done.mesh.settings.telemetry
    assert (found.sampling, found.max_path_length) == (7.5, 30)
    assert found.custom_tags == (CustomTag("my_tag", TagSource.LITERAL, "x"),)
    assert found.file_log is not None
    assert (found.file_log.path, found.file_log.labels) == ("/var/log/mesh", (("id", "%REQ(X-ID)%"),))
    assert mesh("accessLogFile: /dev/stdout\n").mesh.settings.telemetry.file_log is None


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ("defaultProviders: {tracing: [nobody]}\n", "6:33 error ISM2190"),
        ("accessLogFile: mesh.log\n", "6:20 error ISM1106"),
        ("accessLogFile: /x\naccessLogEncoding: JSON\naccessLogFormat: nothing\n", "8:22 error ISM1106"),
        ("accessLogFormat: 100% of it\n", "6:22 error ISM1106"),
        ("defaultConfig: {tracing: {sampling: 101}}\n", "6:41 error ISM1106"),
        ("defaultConfig: {tracing: {zipkin: {}}}\n", "6:31 warning ISM1104"),
        ("extensionProviders: [{name: a, opentelemetry: {service: a, port: 1, grpc: {}, http: {path: /}}}]\n", None),
        ("extensionProviders: [{name: a, envoyFileAccessLog: {path: log}}]\n", "6:63 error ISM1106"),
        (
            "extensionProviders: [{name: a, envoyFileAccessLog: {logFormat: {labels: {b: c}}, omitEmptyValues: true}}"
            "]\n",
            "6:103 warning ISM1104",
        ),
    ],
)
def test_telemetry_that_cannot_be_read(config: str, found: str | None) -> None:
    (only,) = mesh(config).found
    assert only == found if found else only.endswith("error ISM1106")
