from __future__ import annotations

from isthmus.analyze.own_port import CHECK
from tests.analyze.manifest import DATABASE, ORDERS, found


def test_told_once_for_the_mesh() -> None:
    (only,) = found(CHECK, ORDERS, DATABASE)
    assert only.startswith("8 info ISM5008: the programs' own ports (shop/orders-1, shop/database-1) are open")


def test_a_long_list_is_cut() -> None:
    more = [DATABASE.replace("database", name) for name in ("one", "two", "three", "four")]
    (only,) = found(CHECK, ORDERS, *more)
    assert "(shop/orders-1, shop/one-1, shop/two-1 and 2 more)" in only


def test_a_remote_program_is_its_own_machines_business() -> None:
    assert found(CHECK, ORDERS.replace("127.0.0.1", "192.0.2.7")) == []


def test_a_program_that_only_calls_has_no_port() -> None:
    caller = "apiVersion: isthmus.dev/v1alpha1\nkind: LocalWorkload\nmetadata: {name: job, namespace: shop}\nspec: {}\n"
    assert found(CHECK, caller) == []


def test_a_program_in_a_network_of_its_own_is_not_open() -> None:
    started = (
        "apiVersion: isthmus.dev/v1alpha1\nkind: LocalWorkload\nmetadata: {name: web, namespace: shop}\n"
        "spec: {command: [web], ports: [{name: http, number: 80}], network: NETWORK}\n"
    )
    assert found(CHECK, started.replace("NETWORK", "Isolated")) == []
    (only,) = found(CHECK, started.replace("NETWORK", "Host"))
    assert "(shop/web)" in only
