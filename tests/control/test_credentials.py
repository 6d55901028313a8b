"""What the credentials process is told, on which machine."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from typing import Any

from isthmus.compile import Compiler
from isthmus.config.load import load
from isthmus.control.asked import Asked, no_secret
from isthmus.control.credentials import processes, settings, takes_api_keys
from isthmus.model.mesh import Mesh
from isthmus.model.world import World

CONSUMER = """\
apiVersion: isthmus.dev/v1alpha1
kind: Consumer
metadata: {name: mobile, namespace: shop}
spec: {groups: [apps], plan: gold, certificates: [mobile.example]}
"""
POLICY = """\
apiVersion: isthmus.dev/v1alpha1
kind: ClientAuthentication
metadata: {name: keys, namespace: shop}
spec: {methods: [METHOD]}
"""
URL = "postgresql://isthmus:hunter2@db.example/credentials"


def mesh(method: str = "{apiKey: {}}") -> Mesh:
    text = f"{CONSUMER}---\n{POLICY.replace('METHOD', method)}"
    return Compiler().compile(load(["-"], namespace="shop", stdin=BytesIO(text.encode())).documents).mesh


def told(declared: Mesh, node: str = "local", **learnt: Any) -> dict[str, Any]:
    found = settings(Asked(declared, replace(World(), **learnt), node, no_secret))
    return dict(json.loads(json.dumps(found)))


def test_without_a_policy_nobody_asks() -> None:
    assert processes(Mesh()) == 0
    assert processes(mesh()) == 1


def test_who_the_consumers_are() -> None:
    found = told(mesh())
    assert found["consumers"] == {
        "shop/mobile": {"groups": ["apps"], "plan": "gold", "certificates": ["mobile.example"]}
    }


def test_where_their_keys_are() -> None:
    assert told(mesh())["store"] == {"file": True}
    assert told(mesh(), credential_store=URL)["store"] == {"url": URL}
    assert told(mesh(), "edge-1", credential_store=URL)["store"] == {"url": URL}
    assert told(mesh(), "edge-1")["store"] == {"control_plane": True}, "a file of another machine"
    assert not takes_api_keys(mesh("{certificate: {}}"))
    assert told(mesh("{certificate: {}}"), credential_store=URL)["store"] is None, "nobody asks for a key"


def test_no_repr_shows_the_password() -> None:
    assert "hunter2" not in repr(World(credential_store=URL))
