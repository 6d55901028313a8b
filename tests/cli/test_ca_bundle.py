from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from isthmus.identity.store import load_or_create
from isthmus.model.spiffe_bundle import read_spiffe_bundle
from isthmus.state import StateDir
from tests.cli.running import Isthmus


def make_authority() -> None:
    load_or_create(StateDir.at("state").open(), "shop.example", datetime.now(UTC), "istio-system")


def test_a_bundle_for_others(isthmus: Isthmus) -> None:
    make_authority()
    ran = isthmus("ca", "bundle", "--state", "state")
    assert (ran.code, ran.err) == (0, "")
    found = read_spiffe_bundle(ran.out, "shop.example")
    assert found.refresh_hint == timedelta(minutes=5)
    pem = isthmus("ca", "bundle", "-o", "pem", "--state", "state").out
    assert "".join(found.roots) == pem
    assert "PRIVATE" not in ran.out + pem
    assert {"x5c", "use", "kty"} <= json.loads(ran.out)["keys"][0].keys()


def test_before_the_first_start_there_is_none(isthmus: Isthmus) -> None:
    ran = isthmus("ca", "bundle", "--state", "state")
    assert (ran.code, ran.out) == (1, "")
    assert "no certificate authority in state yet" in ran.err
