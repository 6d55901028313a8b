from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.compile import Compiler
from isthmus.control.guests import Guests
from isthmus.errors import Refused
from isthmus.model.workload import Network
from isthmus.state import StateDir


def test_a_guest_is_a_workload_like_any_other() -> None:
    guests = Guests()
    name = guests.add("shop", "visitor", {"app": "web"})
    (workload,) = Compiler().compile(guests.documents).mesh.workloads
    assert (workload.name, workload.namespace, workload.service_account) == (name, "shop", "visitor")
    assert (workload.labels, workload.command) == ({"app": "web"}, None)
    assert workload.network is Network.HOST


def test_a_guest_may_have_a_network_of_its_own() -> None:
    guests = Guests()
    guests.add("shop", "visitor", {}, "Isolated")
    compiled = Compiler().compile(guests.documents)
    assert compiled.mesh.workloads[0].network is Network.ISOLATED
    assert list(compiled.diagnostics) == []
    with pytest.raises(Refused, match='"Mine" is not one of Host, Isolated'):
        Guests().add("shop", "visitor", {}, "Mine")


def test_each_guest_is_its_own_until_it_leaves() -> None:
    guests = Guests()
    one, two = guests.add("shop", "default", {}), guests.add("shop", "default", {})
    assert one != two
    guests.remove("shop", one)
    assert [document.ref.name for document in guests.documents] == [two]
    guests.remove("shop", one)
    assert len(guests.documents) == 1


def names(guests: Guests) -> list[str]:
    return [document.ref.name for document in guests.documents]


def test_the_next_life_of_the_control_plane_finds_them_and_keeps_whom_somebody_holds(tmp_path: Path) -> None:
    kept = StateDir.at(tmp_path)
    before = Guests(kept)
    one, two, gone = (before.add("shop", "visitor", {"app": "web"}) for _ in range(3))
    before.remove("shop", gone)

    after = Guests(kept)
    assert [found.digest for found in after.documents] == [found.digest for found in before.documents]
    assert names(after) == [one, two]
    after.hold("shop", one)
    after.remove_unheld()
    assert names(after) == names(Guests(kept)) == [one]
    with pytest.raises(Refused, match="run the command again"):
        after.hold("shop", two)


def test_the_last_who_lets_go_ends_it() -> None:
    guests = Guests()
    name = guests.add("shop", "visitor", {})
    guests.hold("shop", name)
    guests.remove("shop", name)
    assert names(guests) == [name]
    guests.remove("shop", name)
    assert names(guests) == []


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
