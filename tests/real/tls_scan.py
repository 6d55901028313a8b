"""What other people's scanners say of a gateway's ports: sslscan and testssl.sh, as distributions ship them.

``python -m tests.real.tls_scan`` writes the report that stands in docs/tls-scan.md.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from tests.real.pki import SERVER, Authority
from tests.real.servers import find_server
from tests.real.traffic import dump, gateway, server
from tests.real.traffic_credentials import secret
from tests.real.up import Up

HOST = "localhost"
_LISTS = "http://crl.example.com/edge.crl"
_LONGEST = 240.0
_TRIES = 40
_SCANNER = "engine_problem"
"""Of the scanning machine's own OpenSSL."""
WEAK = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
"""Severities of testssl.sh; WARN is what it could not try."""
ACCEPTED: Mapping[str, str] = {
    "DNS_CAArecord": "a record of public DNS; the scanned host is localhost",
    "OCSP_stapling": "the certificate names no OCSP responder",
}
"""Findings of testssl.sh that are not the gateway's, each with the reason."""


@dataclass(frozen=True)
class Port:
    """A server to look at: what it asks of clients, and where it listens."""

    name: str
    what: str
    declared: int
    number: int


@dataclass(frozen=True)
class Files:
    """``ca``: the root that the gateway's certificates come from, and clients' too; ``client``: chain and key."""

    folder: Path
    ca: Path
    client: Path


@dataclass(frozen=True)
class Finding:
    id: str
    severity: str
    text: str


@dataclass(frozen=True)
class Scanned:
    """What both said of one port."""

    port: Port
    versions: tuple[str, ...]
    """Those that are on, by sslscan."""
    ciphers: tuple[str, ...]
    groups: tuple[str, ...]
    found: tuple[Finding, ...]

    @property
    def weak(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.found if one.severity in WEAK and one.id not in ACCEPTED)


SERVERS = (
    ("public", "SIMPLE, as written by default", 443, {"mode": "SIMPLE", "credentialName": "web"}),
    ("partners", "MUTUAL", 8443, {"mode": "MUTUAL", "credentialName": "web"}),
    (
        "modern",
        "SIMPLE, TLS 1.3 alone",
        9443,
        {"mode": "SIMPLE", "credentialName": "web", "minProtocolVersion": "TLSV1_3"},
    ),
)


def mesh(folder: Path) -> tuple[Up, Files]:
    """A gateway with these servers, not started yet, and what a scanner needs."""
    root = Authority("Scan root")
    now = datetime.now(UTC)
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(_LISTS)], None, None, None)
    leaf = root.intermediate("Scan signing").issue(
        HOST,
        purposes=(SERVER,),
        valid=(now - timedelta(hours=1), now + timedelta(days=90)),
        extensions=(x509.CRLDistributionPoints([point]),),
    )
    keys = {"tls.crt": leaf.chain, "tls.key": leaf.key, "ca.crt": root.pem}
    servers = [server(number, HOST, protocol="HTTPS", name=name, tls=tls) for name, _, number, tls in SERVERS]
    ca = folder / "root.pem"
    ca.write_bytes(root.pem)
    files = Files(folder, ca, root.issue("scanner.example.com").written(folder, "client"))
    return Up(folder, {"edge.yaml": dump(gateway("edge", *servers), secret("web", data=keys))}), files


def ports(up: Up) -> tuple[Port, ...]:
    listeners = {one["declared_port"]: one["address"] for one in up.ready["gateways"][0]["listeners"]}
    return tuple(
        Port(name, what, declared, int(listeners[declared].rpartition(":")[2])) for name, what, declared, _ in SERVERS
    )


def scan(port: Port, files: Files) -> Scanned:
    """Both scanners at one port; a minute or so. Skips where one is not installed."""
    quick = _sslscan(port, files.client)
    return Scanned(
        port,
        versions=tuple(f"TLSv{one.get('version')}" for one in quick.iter("protocol") if one.get("enabled") == "1"),
        ciphers=tuple(dict.fromkeys(one.get("cipher", "") for one in quick.iter("cipher"))),
        groups=tuple(dict.fromkeys(one.get("name", "") for one in quick.iter("group"))),
        found=_testssl(port, files),
    )


def _sslscan(port: Port, client: Path) -> ElementTree.Element:
    """Asked again where it gave up: it goes on sending to connections that the gateway has refused and closed."""
    program = str(find_server("sslscan"))
    own = [f"--certs={client}", f"--pk={client}"]
    for _ in range(_TRIES):
        said = _output([program, "--xml=-", *own, f"--sni-name={HOST}", f"127.0.0.1:{port.number}"])
        if "</document>" in said:
            found = ElementTree.fromstring(said)
            if found.find(".//error") is None:
                return found
    raise AssertionError(f"sslscan gave up {_TRIES} times: {said[-500:]}")


def _testssl(port: Port, files: Files) -> tuple[Finding, ...]:
    """Protocols, categories of ciphers, forward secrecy, server defaults, vulnerabilities."""
    program = find_server("testssl")
    report = files.folder / f"{port.name}.json"
    what = ["--protocols", "--std", "--fs", "--server-defaults", "--server-preference", "--vulnerable"]
    quiet = ["--quiet", "--color", "0", "--warnings", "batch", "--ip", "one"]
    _output(
        [str(program), *what, *quiet, "--add-ca", str(files.ca), "--jsonfile", str(report), f"{HOST}:{port.number}"]
    )
    listed = json.loads(report.read_text())
    return tuple(Finding(one["id"], one["severity"], one["finding"]) for one in listed)


def _output(argv: Sequence[str]) -> str:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LONGEST,
        check=False,
        errors="replace",
        restore_signals=False,
    )
    return done.stdout


def _report(scanned: Sequence[Scanned]) -> str:
    lines = [
        "# What scanners say of a gateway's ports",
        "",
        "`sslscan` and `testssl.sh` (Debian's packages) at the ports of one gateway, with a P-256 certificate from an",
        "authority that the scanner trusts. `tests/real/test_tls_scan.py` asks them again in every run of the tests;",
        "`python -m tests.real.tls_scan` writes this page.",
        "",
        f"Written {datetime.now(UTC):%Y-%m-%d}, {_version('sslscan')}, {_version('testssl')}.",
    ]
    for one in scanned:
        lines += ["", f"## {one.port.name}: {one.port.what}", "", "| what | found |", "|---|---|"]
        lines += [f"| versions | {', '.join(one.versions)} |", f"| cipher suites | {', '.join(one.ciphers)} |"]
        lines += [f"| key exchange | {', '.join(one.groups)} |"]
        lines += [f"| findings of testssl.sh | {len(one.found)}, {len(one.weak)} of them weak |"]
        passed = [finding for finding in one.found if finding.severity == "OK"]
        lines += ["", "| testssl.sh looked for | and says |", "|---|---|"]
        lines += [f"| {finding.id} | {finding.text.strip()} |" for finding in (*one.weak, *passed)]
    lines += ["", "## Not the gateway's", "", "| finding | why it does not count |", "|---|---|"]
    seen = {finding.id for one in scanned for finding in one.found if finding.severity in WEAK}
    lines += [f"| {name} | {why} |" for name, why in ACCEPTED.items() if name in seen]
    lines += ["", "## Not tried", "", "| port | finding | testssl.sh says |", "|---|---|---|"]
    untried = [(one.port.name, finding) for one in scanned for finding in one.found if finding.severity == "WARN"]
    lines += [f"| {name} | {finding.id} | {finding.text} |" for name, finding in untried if finding.id != _SCANNER]
    return "\n".join(lines) + "\n"


def _version(program: str) -> str:
    found = re.search(r"\b\d+\.\d+\.\d+\b", _output([str(find_server(program)), "--version"]))
    return f"{program} {found[0] if found else ''}"


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        up, files = mesh(folder)
        with up:
            sys.stdout.write(_report([scan(port, files) for port in ports(up)]))


if __name__ == "__main__":
    main()
