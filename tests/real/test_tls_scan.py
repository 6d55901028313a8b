"""What scanners say of a gateway's ports: nothing weak. The report of a run stands in docs/tls-scan.md."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.real.tls_scan import SERVERS, Scanned, mesh, ports, scan

pytestmark = pytest.mark.real
PAGE = Path(__file__).parents[2] / "docs" / "tls-scan.md"


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Scanned]]:
    folder = tmp_path_factory.mktemp("scan")
    up, files = mesh(folder)
    with up, ThreadPoolExecutor() as pool:
        found = pool.map(lambda port: scan(port, files), ports(up))
        yield {one.port.name: one for one in found}


@pytest.mark.parametrize("name", [name for name, *_ in SERVERS])
def test_nothing_weak_is_found(scanned: dict[str, Scanned], name: str) -> None:
    found = scanned[name]
    assert not found.weak
    looked_for = {one.id for one in found.found if one.severity == "OK"}
    assert looked_for >= {"SSLv2", "SSLv3", "TLS1_3", "cipherlist_NULL", "heartbleed", "CCS"}, "it reached the port"
    if name == "public":
        assert looked_for >= {"ROBOT", "SWEET32", "RC4", "LUCKY13", "FREAK", "LOGJAM", "ticketbleed"}


def test_only_todays_versions_and_suites_are_taken(scanned: dict[str, Scanned]) -> None:
    assert scanned["public"].versions == scanned["partners"].versions == ("TLSv1.2", "TLSv1.3")
    assert scanned["modern"].versions == ("TLSv1.3",)
    for found in scanned.values():
        assert found.ciphers
        assert all(name.startswith(("TLS_AES", "TLS_CHACHA20", "ECDHE-")) for name in found.ciphers)


def test_the_report_is_kept() -> None:
    page = PAGE.read_text()
    assert all(f"## {name}: {what}" in page for name, what, _, _ in SERVERS)
    assert "0 of them weak" in page
    assert ", 1 of them weak" not in page
