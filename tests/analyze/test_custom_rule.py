from __future__ import annotations

from isthmus.analyze.custom_rule import CHECK
from tests.analyze.manifest import ORDERS, access, found

PROVIDER = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
      - name: opa
        envoyExtAuthzHttp: {service: orders.shop.svc.cluster.local, port: 8080}
"""


def custom(rule: str) -> list[str]:
    return found(CHECK, access(f"action: CUSTOM\nprovider: {{name: opa}}\nrules:\n  - {rule}"), PROVIDER, ORDERS)


def test_a_claim_is_never_there() -> None:
    assert custom("when: [{key: 'request.auth.claims[role]', values: [admin]}]") == [
        "8 warning ISM5001: CUSTOM is asked before tokens are verified, so this rule never matches"
    ]


def test_every_request_is_one_without_a_token() -> None:
    assert custom("from: [{source: {notRequestPrincipals: ['*']}}]") == [
        "8 warning ISM5001: CUSTOM is asked before tokens are verified, so this rule takes every request as one without"
    ]


def test_identities_work_here_and_not_in_istio() -> None:
    assert custom("from: [{source: {namespaces: [edge]}}]") == [
        "8 warning ISM5010: Isthmus knows the caller's identity when CUSTOM is asked, but Istio refuses this rule"
    ]


def test_paths_and_headers_are_good() -> None:
    assert custom("to: [{operation: {paths: [/admin*]}}]\n    when: [{key: 'request.headers[x]', values: ['*']}]") == []


def test_other_actions_may_ask_for_claims() -> None:
    assert found(CHECK, access("rules: [{from: [{source: {requestPrincipals: ['*']}}]}]"), ORDERS) == []
