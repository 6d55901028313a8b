"""Every way in which a TLS handshake fails at a gateway: its line in the log, its reason, and the metric."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from isthmus.doctor.fetch import Target, look_at
from isthmus.doctor.observed import Observed
from isthmus.doctor.report import Level, judge
from isthmus.model.metric import HANDSHAKE_DURATION, HANDSHAKE_FAILURES
from tests.real.backend import Backend
from tests.real.handshaking import context, hello, says, shakes_hands
from tests.real.pki import Authority, Flaw, Leaf, self_signed
from tests.real.traffic import dump, gateway, routes, server, service, to, workload
from tests.real.traffic_credentials import secret
from tests.real.up import Up, eventually, isthmus, whole_lines

pytestmark = pytest.mark.real

HOST = "edge.example.com"
NAME = "client.example.com"
CIPHER = "ECDHE-ECDSA-AES128-GCM-SHA256"
_SECONDS = 60.0
_SOURCES = iter(f"127.0.1.{number}" for number in range(1, 255))


@dataclass
class Edge:
    """A gateway with mutual TLS, and those who want in."""

    up: Up
    folder: Path
    servers: Authority
    clients: Authority
    revoked: Leaf
    waiting: socket.socket
    """A connection that has begun a handshake and does not go on."""

    @property
    def place(self) -> tuple[str, int]:
        return self.up.gateway(443)

    def lines(self) -> list[dict[str, Any]]:
        log = self.up.state / "log" / "handshakes.log"
        return [json.loads(line) for line in whole_lines(log)] if log.exists() else []

    def line_of(self, attempt: Callable[[str], object]) -> dict[str, Any]:
        """The one line that ``attempt``, from an address of its own, leaves in the log."""
        source = next(_SOURCES)
        attempt(source)
        found = eventually(lambda: [line for line in self.lines() if line["peer_address"] == source], _SECONDS)
        assert len(found) == 1
        return dict(found[0])

    def refused(self, own: Leaf | None = None, name: str = HOST, trusted: bytes = b"", **how: Any) -> dict[str, Any]:
        by = context(trusted or self.servers.pem, own, self.folder, **how)

        def attempt(source: str) -> None:
            assert not shakes_hands(self.place, by, name, source)

        return self.line_of(attempt)

    def metrics(self) -> str:
        http = self.up.ready["control_plane"]["http"]
        answer = httpx.get(f"{http}/metrics/proxies/gateway~shop~edge", trust_env=False, verify=False, timeout=20)
        answer.raise_for_status()
        return answer.text

    def counted(self) -> Counter[str]:
        """Failures by reason."""
        pattern = re.compile(HANDSHAKE_FAILURES.name + r'\{listener="gateway_443",reason="([a-z0-9-]+)"\} (\d+)')
        return Counter({found[1]: int(found[2]) for found in pattern.finditer(self.metrics())})


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("handshakes")
    servers, clients = Authority("servers"), Authority("clients")
    own, revoked = servers.issue(HOST), clients.issue(NAME, common_name="revoked")
    data = {
        "tls.crt": own.chain,
        "tls.key": own.key,
        "ca.crt": clients.pem,
        "ca.crl": clients.revoke(revoked),
    }
    tls = {"mode": "MUTUAL", "credentialName": "edge", "subjectAltNames": [NAME], "cipherSuites": [CIPHER]}
    with Backend() as backend:
        text = dump(
            secret("edge", type="kubernetes.io/tls", data=data),
            gateway("edge", server(443, HOST, protocol="HTTPS", tls=tls)),
            routes("edge", [HOST], {"route": [to("back")]}, gateways=["edge"]),
            service("back"),
            workload("back-1", backend.port, {"app": "back"}),
        )
        with Up(folder, {"all.yaml": text}) as up:
            address = (next(_SOURCES), 0)
            with socket.create_connection(up.gateway(443), 3 * _SECONDS, source_address=address) as waiting:
                waiting.sendall(hello(HOST))
                yield Edge(up, folder, servers, clients, revoked, waiting)


def test_who_is_right_gets_in_and_leaves_no_line(edge: Edge) -> None:
    by = context(edge.servers.pem, edge.clients.issue(NAME), edge.folder)
    source = next(_SOURCES)
    assert eventually(lambda: shakes_hands(edge.place, by, HOST, source), _SECONDS)
    before = edge.counted()
    # A later failure is told: this one would have been before it.
    edge.refused()
    assert source not in {line["peer_address"] for line in edge.lines()}
    fresh = edge.counted() - before
    # Of the one that waits since the start: whenever that is.
    fresh.pop("tls-timeout", None)
    assert fresh.total() == 1


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("none", "tls-no-client-certificate"),
        ("expired", "tls-certificate-expired"),
        ("early", "tls-certificate-not-yet-valid"),
        ("stranger", "tls-unknown-ca"),
        ("self-signed", "tls-unknown-ca"),
        ("revoked", "tls-revoked"),
        ("other-name", "tls-san-mismatch"),
        ("of-a-server", "tls-wrong-purpose"),
    ],
)
def test_certificates_that_are_refused(edge: Edge, case: str, reason: str, newest: ssl.TLSVersion) -> None:
    clients = edge.clients
    shown: dict[str, Callable[[], Leaf | None]] = {
        "none": lambda: None,
        "expired": lambda: clients.issue(NAME, flaw=Flaw.EXPIRED),
        "early": lambda: clients.issue(NAME, flaw=Flaw.NOT_YET_VALID),
        "stranger": lambda: Authority("stranger").issue(NAME),
        "self-signed": lambda: self_signed(NAME),
        "revoked": lambda: edge.revoked,
        "other-name": lambda: clients.issue("certificate_has_expired.example.com"),
        "of-a-server": lambda: clients.issue(NAME, flaw=Flaw.WRONG_PURPOSE),
    }
    own = shown[case]()
    ciphers = CIPHER if newest is ssl.TLSVersion.TLSv1_2 else ""
    line = edge.refused(own, ciphers=ciphers)
    assert line["reason"] == reason
    assert line["sni"] == HOST
    assert (line["proxy"], line["listener"]) == ("gateway~shop~edge", "gateway_443")
    if own is None:
        assert line["peer_serial"] is None
    else:
        assert int(line["peer_serial"], 16) == own.certificate.serial_number
        assert line["peer_fingerprint"] == own.hash
        assert line["peer_subject"] == f"CN={'revoked' if case == 'revoked' else _common_name(own)}"
        assert line["peer_issuer"].startswith("CN=")
        assert len(line["peer_sans"]) == 1
    assert edge.counted()[reason] >= 1


def _common_name(own: Leaf) -> str:
    return own.certificate.subject.rfc4514_string().removeprefix("CN=")


def test_versions_and_ciphers(edge: Edge) -> None:
    own = edge.clients.issue(NAME)
    assert edge.refused(own, newest=ssl.TLSVersion.TLSv1_1)["reason"] == "tls-protocol-version"
    assert edge.refused(own, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")["reason"] == "tls-no-shared-cipher"
    assert edge.refused(own, name="elsewhere.example.com")["reason"] == "tls-unknown-server-name"


@pytest.mark.parametrize("ciphers", ["", CIPHER])
def test_a_client_that_refuses_us(edge: Edge, ciphers: str) -> None:
    line = edge.refused(edge.clients.issue(NAME), trusted=Authority("another").pem, ciphers=ciphers)
    assert line["reason"] == "tls-client-rejected-us"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nhost: edge\r\n\r\n", "tls-not-tls"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "tls-not-tls"),
        (hello(HOST)[:100] + b"\xff" * 417, "tls-malformed"),
        (hello(HOST), "tls-client-gone"),
        (b"", "tls-client-gone"),
    ],
)
def test_what_is_no_handshake(edge: Edge, data: bytes, reason: str) -> None:
    leaves = reason == "tls-client-gone"
    line = edge.line_of(lambda source: says(edge.place, data, source, leaves=leaves))
    assert line["reason"] == reason
    assert edge.counted()[reason] >= 1


def test_a_client_that_goes_on_fills_no_log(edge: Edge) -> None:
    source, before = next(_SOURCES), edge.counted()["tls-not-tls"]
    began = time.monotonic()
    for _ in range(200):
        says(edge.place, b"GET / HTTP/1.1\r\n\r\n", source)
    took = time.monotonic() - began
    eventually(lambda: edge.counted()["tls-not-tls"] == before + 200, _SECONDS)
    edge.refused()
    own = [line for line in edge.lines() if line["peer_address"] == source]
    assert 20 <= len(own) < 25 + took, "20 at once, then one a second"


def test_a_handshake_that_does_not_end(edge: Edge) -> None:
    """It was begun with the gateway: it takes ten seconds."""
    source = edge.waiting.getsockname()[0]
    while edge.waiting.recv(4096):
        pass
    (line,) = eventually(lambda: [line for line in edge.lines() if line["peer_address"] == source], _SECONDS)
    assert line["reason"] == "tls-timeout"
    assert 9_000 < line["duration_ms"] < 30_000


def test_how_long_handshakes_take(edge: Edge) -> None:
    by = context(edge.servers.pem, edge.clients.issue(NAME), edge.folder)
    assert shakes_hands(edge.place, by, HOST)
    took = f'{HANDSHAKE_DURATION.name}_count{{listener="gateway_443"}} '
    # Envoy puts histograms together every ten seconds.
    (line,) = eventually(lambda: [line for line in edge.metrics().splitlines() if line.startswith(took)], _SECONDS)
    assert float(line.removeprefix(took)) >= 1


def findings(edge: Edge, own: Leaf | None = None, name: str = HOST, roots: bytes = b"") -> tuple[Observed, set[str]]:
    """What ``isthmus doctor tls`` finds wrong at the gateway."""
    files = own.written(edge.folder, "doctor") if own is not None else None
    pem = (roots or edge.servers.pem).decode()
    host, port = edge.place
    seen = look_at(Target(host, port, name, pem, "roots", (files, files) if files is not None else None))
    return seen, {found.check for found in judge(seen, datetime.now(UTC)) if found.level is Level.WRONG}


def test_the_doctor_tells_the_same(edge: Edge) -> None:
    seen, faults = findings(edge, edge.clients.issue(NAME))
    assert faults == set()
    assert (seen.wanted, seen.ciphers) == (("CN=clients",), (CIPHER,))
    assert seen.bare.error
    assert findings(edge)[1] == {"client certificate"}
    assert findings(edge, edge.clients.issue(NAME, flaw=Flaw.EXPIRED))[1] == {"own certificate"}
    assert findings(edge, edge.revoked)[1] == {"own certificate"}
    assert findings(edge, edge.clients.issue(NAME), roots=Authority("another").pem)[1] == {"trust"}
    assert "version" in findings(edge, name="elsewhere.example.com")[1]


def test_the_command(edge: Edge) -> None:
    host, port = edge.place
    roots, own = edge.folder / "roots.pem", edge.clients.issue(NAME).written(edge.folder, "command")
    roots.write_bytes(edge.servers.pem)
    asked = ("doctor", "tls", f"{host}:{port}", "--sni", HOST, "--ca", str(roots), "--state", str(edge.up.state))
    good = isthmus(*asked, "--cert", str(own), "-o", "json")
    assert good.returncode == 0, good.stdout + good.stderr
    told = json.loads(good.stdout)
    assert told["versions"] == {"TLS 1.0": "refused", "TLS 1.1": "refused", "TLS 1.2": "spoken", "TLS 1.3": "spoken"}
    assert not told["wrong"]
    bad = isthmus(*asked)
    assert bad.returncode == 1
    assert "wrong client certificate: the server demands a client's certificate of: CN=clients" in bad.stdout
    assert isthmus("doctor", "tls", "nowhere").returncode == 2


def test_sidecars_tell_of_theirs(edge: Edge) -> None:
    ((declared, address),) = edge.up.workload("back-1")["inbound"].items()
    host, _, port = address.rpartition(":")
    source, by = next(_SOURCES), context(edge.servers.pem)
    by.verify_mode = ssl.CERT_NONE
    # What marks a proxy of the mesh: this one has no certificate of it.
    by.set_alpn_protocols(["istio"])
    assert not shakes_hands((host, int(port)), by, HOST, source)
    (line,) = eventually(lambda: [line for line in edge.lines() if line["peer_address"] == source], _SECONDS)
    assert (line["reason"], line["listener"]) == ("tls-no-client-certificate", f"inbound_{declared}")
    assert line["proxy"] == "sidecar~shop~back-1"
