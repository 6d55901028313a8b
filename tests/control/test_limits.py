"""What the limit service is told."""

from __future__ import annotations

from isthmus.control.asked import Asked
from isthmus.control.limits import processes, settings
from isthmus.model.mesh import Mesh
from isthmus.model.world import World
from tests.xds.making import compiled, entry, service
from tests.xds.test_limits import limit, limits

SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: counter, namespace: shop}
stringData: {url: "redis://:secret@counter.example"}
"""
COUNTED = limit("g", "scope: GLOBAL, match: {plans: [free]}")


def mesh_of(*texts: str) -> Mesh:
    return compiled(service("web"), entry("web-1"), SECRET, *texts).mesh


def asked(mesh: Mesh, url: bytes | None) -> Asked:
    def read(key: str, names: tuple[str, ...]) -> bytes | None:
        assert (key, names) == ("shop/counter", ("url",))
        return url

    return Asked(mesh, World(), "local", read)


def test_one_process_where_anything_is_to_be_counted() -> None:
    assert processes(mesh_of()) == 0
    assert processes(mesh_of(limits("local", limit()))) == 0
    assert processes(mesh_of(limits("counted", COUNTED))) == 1
    slots = limits("slots", more="concurrency: [{name: s, max: 1}]").replace("limits: [], ", "")
    assert processes(mesh_of(slots)) == 1


def test_limits_and_stores() -> None:
    store = "store: {redis: {secretName: counter}}"
    mesh = mesh_of(limits("p", COUNTED, limit("l"), more=store), limits("q", limit("h", "scope: GLOBAL")))
    told = settings(asked(mesh, b" redis://:secret@counter.example\n"))
    assert told["stores"] == {"shop/counter": "redis://:secret@counter.example"}
    assert [(one["id"], one["store"], one["plans"]) for one in told["limits"]] == [
        ("shop/p/g", "shop/counter", ["free"]),
        ("shop/q/h", None, []),
    ]
    assert settings(asked(mesh, None))["stores"] == {}
