from __future__ import annotations

from isthmus.analyze.retry_timeout import CHECK
from tests.analyze.manifest import GATEWAY, ORDERS, ROUTES, found


def with_fields(fields: str) -> list[str]:
    return found(CHECK, ROUTES + f"      {fields}\n", GATEWAY, ORDERS)


def test_the_route_ends_first() -> None:
    assert with_fields("timeout: 1s\n      retries: {attempts: 3, perTryTimeout: 2500ms}") == [
        "8 warning ISM5009: the route ends after 1 s, before one try of 2.5 s does: a slow try is never repeated"
    ]


def test_room_for_a_try_is_good() -> None:
    assert with_fields("timeout: 5s\n      retries: {attempts: 3, perTryTimeout: 2s}") == []


def test_without_one_of_both_there_is_no_conflict() -> None:
    assert with_fields("retries: {attempts: 3, perTryTimeout: 2s}") == []
    assert with_fields("timeout: 1s\n      retries: {attempts: 3}") == []
    assert (
        found(CHECK, ROUTES.replace("route: [{destination: {host: orders}}]", "redirect: {uri: /new}"), GATEWAY) == []
    )
