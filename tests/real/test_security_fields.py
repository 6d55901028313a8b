"""What the rules of an AuthorizationPolicy ask about, field by field, on real Envoys: as ALLOW and as DENY."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.backend import Backend
from tests.real.fields import enforces
from tests.real.fields_peer import Answer, Ask, Issuer, bearer, inbound, send
from tests.real.fields_rules import CASES, Case, Try
from tests.real.manifests import ISSUER
from tests.real.up import Up, development_jwks, eventually

pytestmark = pytest.mark.real

WORKLOADS = """\
apiVersion: isthmus.dev/v1alpha1
kind: LocalWorkload
metadata: {{name: {name}, namespace: shop}}
spec:
  labels: {{app: {name}}}
  ports: [{{name: http, number: 8080, listen: {port}}}, {{name: other, number: 8081, listen: {port}}}]
---
"""
TOKENS = f"""\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: shop}}
spec: {{jwtRules: [{{issuer: {ISSUER}, jwksUri: "{ISSUER}/jwks"}}]}}
"""
ACTIONS = {"ALLOW": "allowing", "DENY": "refusing"}


def path_of(index: int) -> str:
    return f"/case-{index}"


def policy(action: str) -> str:
    """All cases as the rules of one policy: each speaks of a path of its own."""
    rules = [case.rule_at(path_of(index)) for index, case in enumerate(CASES)]
    return json.dumps(
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "cases", "namespace": "shop"},
            "spec": {"selector": {"matchLabels": {"app": ACTIONS[action]}}, "action": action, "rules": rules},
        }
    ).replace('"name": "cases"', f'"name": "cases-{ACTIONS[action]}"')


@dataclass(frozen=True, slots=True)
class Mesh:
    up: Up
    certificates: dict[str, Path]

    def send(self, action: str, index: int, tried: Try) -> Answer:
        headers = dict(tried.headers)
        if tried.token is not None:
            claims = dict(tried.token)
            headers["authorization"] = "Bearer " + bearer(self.up, ISSUER, claims.pop("sub"), **claims)
        ask = Ask(
            path=path_of(index) + tried.path,
            method=tried.method,
            headers=headers,
            certificate=None if tried.peer is None else self.certificates[tried.peer],
            sni=tried.sni,
            source=tried.source,
        )
        return send(inbound(self.up, ACTIONS[action], tried.port), ask)


def _peers() -> set[str]:
    return {tried.peer for case in CASES for tried in (*case.takes, *case.leaves) if tried.peer is not None}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("fields")
    jwks = development_jwks(folder / "state", folder / "jwks.json")
    with Backend() as backend:
        manifests = {
            "workloads.yaml": "".join(WORKLOADS.format(name=name, port=backend.port) for name in ACTIONS.values()),
            "tokens.yaml": TOKENS,
            **{f"{action}.json": policy(action) for action in ACTIONS},
        }
        with Up(folder, manifests, "--jwks", f"{ISSUER}={jwks}") as up:
            issuer = Issuer.of(up, folder)
            yield Mesh(
                up,
                {
                    peer: issuer.certificate("spiffe://cluster.local/ns/{}/sa/{}".format(*peer.split("/")))
                    for peer in _peers()
                },
            )


def _parameters() -> list[object]:
    return [
        pytest.param(index, case, marks=enforces(*case.fields), id=f"{index}-{case.fields[0].rpartition('.')[2]}")
        for index, case in enumerate(CASES)
    ]


@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
@pytest.mark.parametrize(("index", "case"), _parameters())
def test_rule_takes_and_leaves(mesh: Mesh, action: str, index: int, case: Case) -> None:
    taken, left = (200, 403) if action == "ALLOW" else (403, 200)
    for tried in case.takes:
        assert mesh.send(action, index, tried).status == taken, tried
    for tried in case.leaves:
        assert mesh.send(action, index, tried).status == left, tried


def test_the_access_log_names_the_rule_that_decided(mesh: Mesh) -> None:
    """Of every case: the policy and the number of its rule, at ALLOW and at DENY; and none where none took it."""
    wanted: dict[str, tuple[str, str | None]] = {}
    for index, case in enumerate(CASES):
        for action, name in ACTIONS.items():
            rule = f"ns[shop]-policy[cases-{name}]-rule[{index}]"
            for tried, decides in [*((one, rule) for one in case.takes[:1]), *((one, None) for one in case.leaves[:1])]:
                answer = mesh.send(action, index, tried)
                wanted[answer.request_id] = (f"{action.lower()}_policy", decides)

    def lines() -> dict[str, dict[str, Any]]:
        logs = [line for name in ACTIONS.values() for line in mesh.up.access_log(f"sidecar~shop~{name}")]
        return {line["request_id"]: line for line in logs if line["request_id"] in wanted}

    eventually(lambda: lines().keys() == wanted.keys())
    found = lines()
    for request_id, (key, decides) in wanted.items():
        line = found[request_id]
        named = line[key]
        assert (str(named).partition("-part[")[0] if named else None) == decides, line
        if key == "allow_policy":
            assert line["allow_result"] == ("allowed" if decides else "denied"), line
            assert "ns[shop]-policy[cases-allowing]" in line["allow_policies"], "who could have allowed it"
