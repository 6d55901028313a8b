from __future__ import annotations

from pathlib import Path

from isthmus.analyze.tls_file import CHECK
from tests.analyze.manifest import ORDERS, found

RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders, namespace: shop}
spec:
  host: orders
  trafficPolicy:
    tls: {mode: MUTUAL, caCertificates: ROOTS, clientCertificate: CHAIN, privateKey: KEY}
"""


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for name in ("ROOTS", "CHAIN", "KEY"):
        (tmp_path / name).touch()
    written = RULE
    for name in ("ROOTS", "CHAIN", "KEY"):
        written = written.replace(name, str(tmp_path / name))
    assert found(CHECK, written, ORDERS) == []
    (tmp_path / "KEY").unlink()
    (one,) = found(CHECK, written, ORDERS)
    assert one == (
        f"7 error ISM5040: {tmp_path}/KEY cannot be read on this machine: "
        "proxies here connect to nobody as this rule says"
    )


def test_the_systems_roots_are_no_file_of_the_manifest() -> None:
    simple = RULE.partition("    tls:")[0] + "    tls: {mode: SIMPLE, caCertificates: system}\n"
    assert found(CHECK, simple, ORDERS) == []


def test_files_of_a_gateway(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").touch()
    gateway = f"""\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: edge}}
spec:
  selector: {{app: edge}}
  servers:
    - port: {{number: 443, name: https, protocol: HTTPS}}
      hosts: [shop.example.com]
      tls: {{mode: SIMPLE, serverCertificate: {tmp_path}/tls.crt, privateKey: {tmp_path}/tls.key}}
"""
    assert found(CHECK, gateway) == [
        f"7 error ISM5063: {tmp_path}/tls.key cannot be read on this machine: "
        "port 443 takes no connection for shop.example.com"
    ]
    (tmp_path / "tls.key").touch()
    assert found(CHECK, gateway) == []
