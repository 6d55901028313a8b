from __future__ import annotations

import pytest

from isthmus.model.gateway import ServerHost
from isthmus.xds.binding import Bindings

from .making import compiled, networking


def table(name: str, hosts: str, namespace: str = "shop") -> str:
    spec = f"hosts: {hosts}\ngateways: [shop/edge]\nhttp: [{{route: [{{destination: {{host: site}}}}]}}]"
    return networking("VirtualService", name, spec, namespace)


BINDINGS = Bindings(
    compiled(
        table("wide", "['*.example.com']"),
        table("all", "['*']", "other"),
        table("one", "[a.example.com]"),
        table("narrow", "['*.a.example.com', b.example.com]"),
    ).mesh.routes
)


@pytest.mark.parametrize(
    ("host", "namespace", "found"),
    [
        ("a.example.com", None, [("a.example.com", name) for name in ("wide", "all", "one")]),
        ("a.example.com", "other", [("a.example.com", "all")]),
        ("x.a.example.com", "shop", [("x.a.example.com", "wide"), ("x.a.example.com", "narrow")]),
        ("example.com", None, [("example.com", "all")]),
        (
            "*.example.com",
            "shop",
            [
                ("*.example.com", "wide"),
                ("a.example.com", "one"),
                ("*.a.example.com", "narrow"),
                ("b.example.com", "narrow"),
            ],
        ),
        ("*", "other", [("*", "all")]),
    ],
)
def test_the_hosts_that_both_mean_in_order_of_loading(
    host: str, namespace: str | None, found: list[tuple[str, str]]
) -> None:
    assert [(common, one.name) for common, one in BINDINGS.of(ServerHost(host, namespace))] == found
