"""What the tests of RegoPolicies share: policies as values, and a module that people write for OPA-Envoy."""

from __future__ import annotations

from typing import Any

from tests.real.traffic import Manifest, manifest

GUESTS = """\
package envoy.authz

import input.attributes.request.http as http_request

default allow := false

token := input.attributes.metadataContext.filterMetadata["envoy.filters.http.jwt_authn"].payload

allow if action_allowed

action_allowed if {
    http_request.method == "GET"
    token.role == "guest"
    glob.match("/people/**", ["/"], http_request.path)
}

action_allowed if {
    http_request.method in {"GET", "POST"}
    token.role == "admin"
    glob.match("/people/**", ["/"], http_request.path)
    not own_name
}

own_name if lower(input.parsed_body.firstname) == token.sub
"""
"""As the tutorial of the OPA-Envoy plugin has it: guests read, admins write, but nobody adds themselves."""


def rego_policy(name: str, rego: str, *, route: str | None = None, **spec: Any) -> Manifest:
    """A RegoPolicy for the http route of its name, or for what ``spec`` says."""
    if not {"selector", "targetRefs", "provider"} & spec.keys():
        spec["targetRefs"] = [
            {"group": "networking.istio.io", "kind": "VirtualService", "name": "shop", "sectionName": route or name}
        ]
    document = manifest("RegoPolicy", name, {"rego": rego, "timeout": "10s", **spec})
    return {**document, "apiVersion": "isthmus.dev/v1alpha1"}
