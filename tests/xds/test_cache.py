from __future__ import annotations

from isthmus.control.offline import offline_world
from isthmus.xds.cache import TargetCache
from isthmus.xds.snapshot import CLUSTER, ENDPOINT
from isthmus.xds.translate import translate
from tests.xds.making import compiled

MANIFESTS = """\
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: cart-1, namespace: shop}
spec: {address: 127.0.0.1, labels: {app: cart}, ports: {http: 9000}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: cart-2, namespace: shop}
spec: {address: 127.0.0.1, labels: {app: cart}, ports: {http: 9001}}
"""


def test_proxies_share_what_is_the_same_and_get_what_they_would_alone() -> None:
    mesh = compiled(MANIFESTS).mesh
    world, cache = offline_world(mesh), TargetCache()
    one, other = (translate(mesh, world, proxy, cache) for proxy in mesh.proxies)
    name = "outbound|8080||cart.shop.svc.cluster.local"
    for type_url in (CLUSTER, ENDPOINT):
        assert one.of(type_url)[name] is other.of(type_url)[name]
    assert [one, other] == [translate(mesh, world, proxy) for proxy in mesh.proxies]
