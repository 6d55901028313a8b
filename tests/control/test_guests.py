from __future__ import annotations

import pytest

from isthmus.compile import Compiler
from isthmus.control.guests import Guests
from isthmus.errors import Refused


def test_a_guest_is_a_workload_like_any_other() -> None:
    guests = Guests()
    name = guests.add("shop", "visitor", {"app": "web"})
    (workload,) = Compiler().compile(guests.documents).mesh.workloads
    assert (workload.name, workload.namespace, workload.service_account) == (name, "shop", "visitor")
    assert (workload.labels, workload.command) == ({"app": "web"}, None)


def test_each_guest_is_its_own_until_it_leaves() -> None:
    guests = Guests()
    one, two = guests.add("shop", "default", {}), guests.add("shop", "default", {})
    assert one != two
    guests.remove("shop", one)
    assert [document.ref.name for document in guests.documents] == [two]
    guests.remove("shop", one)
    assert len(guests.documents) == 1


@pytest.mark.parametrize("namespace", ["Shop", "shop/other", "a" * 64, "-"])
def test_a_namespace_that_is_none_is_refused(namespace: str) -> None:
    guests = Guests()
    with pytest.raises(Refused, match="is not a namespace"):
        guests.add(namespace, "default", {})
    assert guests.documents == ()


def test_what_looks_like_yaml_stays_text() -> None:
    guests = Guests()
    guests.add("shop", "default", {"app": "yes: {no}", "note": "\U0001f600"})
    (workload,) = Compiler().compile(guests.documents).mesh.workloads
    assert workload.labels == {"app": "yes: {no}", "note": "\U0001f600"}
