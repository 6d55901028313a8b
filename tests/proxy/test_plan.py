from __future__ import annotations

import json
from dataclasses import replace

import pytest

from isthmus.model.proxy import Role
from isthmus.model.registration import Selectors
from isthmus.model.world import Address
from isthmus.proxy.plan import (
    Plan,
    PlannedCredential,
    PlannedProxy,
    PlannedRegistration,
    PlannedWorkload,
    Redirection,
    TrustBundle,
    from_json,
    plan_version,
    to_json,
)

PLAN = Plan(
    version=7,
    node="local",
    trust_domain="cluster.local",
    ads=Address("127.0.0.1", 15012),
    control_plane_id="spiffe://cluster.local/ns/istio-system/sa/isthmus",
    enrol_socket="/run/isthmus/enrol.sock",
    svid_ttl_seconds=3600,
    proxies=(
        PlannedProxy(
            id="gateway~edge~web",
            role=Role.GATEWAY,
            name="web",
            namespace="edge",
            identity="spiffe://cluster.local/ns/edge/sa/web",
            credentials=(
                PlannedCredential("credential:edge/web", "1", ("web.example.com",)),
                PlannedCredential("credential-ca:edge/web", "2"),
            ),
        ),
    ),
    workloads=(
        PlannedWorkload(
            "sidecar~shop~orders",
            "orders",
            "shop",
            ("./orders",),
            {"http_proxy": "http://w:s3cret@h"},
            ".",
            (Address("127.0.0.1", 9080),),
            isolated=True,
            redirection=Redirection(connections=15002, names=15003),
        ),
    ),
    relay=(Address("192.0.2.1", 443), Address("db.example.com", 5432)),
    registrations=(
        PlannedRegistration("spiffe://cluster.local/ns/shop/sa/db", Selectors(uid=70), 60, ("vault",), "inner"),
        PlannedRegistration("spiffe://cluster.local/ns/shop/sa/db", Selectors(path="/usr/bin/db"), 60),
    ),
    programs=(("sidecar~shop~run-1", 4711),),
    trust=(TrustBundle("cluster.local", ("one", "two"), jwt_keys=("{}",)), TrustBundle("other.example", ("three",))),
)


def test_what_was_written_is_read() -> None:
    assert from_json(json.dumps(to_json(PLAN))) == PLAN


def test_no_repr_shows_the_credential_of_the_outbound_proxy() -> None:
    assert "s3cret" not in repr(PLAN)


def test_the_agent_hears_nothing_of_programs() -> None:
    assert "s3cret" not in json.dumps(to_json(PLAN.for_agent()))
    assert PLAN.for_agent() == replace(PLAN, workloads=())


@pytest.mark.parametrize("broken", ["[]", "{}", "nothing", '{"version": 1, "workloads": [{"env": "s3cret"}]}'])
def test_anything_else_is_refused_without_showing_it(broken: str) -> None:
    with pytest.raises(ValueError) as refused:
        from_json(broken)
    assert "s3cret" not in str(refused.value)


def test_a_version_is_of_the_content() -> None:
    assert plan_version(PLAN) == plan_version(replace(PLAN, version=8)) >= 0
    assert plan_version(PLAN) != plan_version(replace(PLAN, node="other"))
