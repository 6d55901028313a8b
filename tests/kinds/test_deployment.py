from __future__ import annotations

import pytest
from traffic_manifest import compiled, core


def deployment(spec: str) -> str:
    body = "\n".join(f"  {line}" for line in spec.splitlines())
    return core("Deployment", f"spec:\n{body}", "edge", version="apps/v1")


def test_labels_and_service_account_of_the_pods() -> None:
    done = compiled(
        deployment(
            "replicas: 2\nselector: {matchLabels: {app: edge}}\nstrategy: {}\n"
            "template:\n  metadata: {labels: {app: edge, tier: front}}\n"
            "  spec: {serviceAccountName: edge-sa, containers: [{name: a, image: b}]}"
        )
    )
    assert done.found == ["1:1 info ISM2113"]
    (found,) = done.mesh.deployments
    assert (found.name, found.namespace, found.service_account) == ("edge", "shop", "edge-sa")
    assert found.labels == {"app": "edge", "tier": "front"}
    assert (found.replicas, found.injected) == (2, False)


@pytest.mark.parametrize(
    ("template", "account", "injected"),
    [
        ("{metadata: {labels: {a: b}}}", "default", False),
        ("{metadata: {labels: {a: b}}, spec: {serviceAccount: old}}", "old", False),
        ("{metadata: {labels: {a: b}, annotations: {sidecar.istio.io/inject: 'true'}}}", "default", True),
    ],
)
def test_the_defaults(template: str, account: str, injected: bool) -> None:
    (found,) = compiled(deployment(f"template: {template}")).mesh.deployments
    assert (found.service_account, found.injected, found.replicas) == (account, injected, 1)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("replicas: 1", "5:3 error ISM1103"),
        ("template: {}", "5:13 error ISM1103"),
        ("template: {metadata: {}}", "5:24 error ISM1103"),
        ("selector: {matchLabels: {app: a}}\ntemplate: {metadata: {labels: {app: b}}}", "5:13 error ISM1106"),
        ("replica: 1\ntemplate: {metadata: {labels: {app: b}}}", "5:3 error ISM1101"),
    ],
)
def test_deployments_that_cannot_be_read(spec: str, found: str) -> None:
    done = compiled(deployment(spec))
    assert done.found == [found]
    assert not done.mesh.deployments
