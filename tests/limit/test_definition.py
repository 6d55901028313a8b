"""What the service is told, there and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from isthmus.diag import Origin, Ref, Source
from isthmus.limit.definition import Definition, Definitions, definition, from_json, to_json
from isthmus.model.limit import Limit, Period
from tests.limit.playbook import quota, rate, slots

ORIGIN = Origin(Ref("RateLimitPolicy", "shop", "p"), Source("a.yaml", 1, 1))


@pytest.mark.parametrize("amount", [rate(3, 0.05, 7), quota(4, Period.MONTH), slots(5, 30)])
def test_there_and_back(amount: object) -> None:
    one = definition("a/b/c", Limit("c", amount, ORIGIN, plans=("free",), shadow=True), headers=False, store="a/s")  # type: ignore[arg-type]
    assert one == Definition("a/b/c", amount, ("free",), True, False, "a/s")  # type: ignore[arg-type]
    named = replace(one, clients_choose=True)
    assert from_json({"limits": [to_json(named)], "stores": {}}).by_id == {"a/b/c": named}
    settings = json.loads(json.dumps({"limits": [to_json(one)], "stores": {"a/s": "redis://:secret@h"}}))
    found = from_json(settings)
    assert found == Definitions({"a/b/c": one}, {"a/s": "redis://:secret@h"})
    assert "secret" not in repr(found)
