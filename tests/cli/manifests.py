"""Manifests without any fault but one info (a program's own port), and ways to spoil them."""

from __future__ import annotations

from pathlib import Path

GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
    - port: {number: 80, name: http, protocol: HTTP}
      hosts: [shop.example.com]
"""
ROUTES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example.com]
  gateways: [edge]
  http:
    - route: [{destination: {host: orders}}]
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec:
  selector: {app: orders}
  ports: [{name: http, port: 8080}]
"""
WORKLOAD = """\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: orders-1, namespace: shop}
spec: {address: 127.0.0.1, labels: {app: orders}, ports: {http: 8080}}
"""
SHOP = "---\n".join((GATEWAY, ROUTES, SERVICE, WORKLOAD))


def write(**files: str) -> None:
    """``name="text"`` becomes ``shop/name.yaml`` in the current folder."""
    folder = Path("shop")
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
