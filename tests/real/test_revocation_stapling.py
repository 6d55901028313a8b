"""OCSP answers stapled to a gateway's own certificates, with ``openssl`` as responder and as client."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.real.backend import Backend
from tests.real.edge import asking, named, pem, policy, world
from tests.real.fields import enforces
from tests.real.pki import Authority, Leaf
from tests.real.revocation_server import RevocationServer, answered_at
from tests.real.servers import find_server
from tests.real.up import Up, eventually, free_port

pytestmark = pytest.mark.real

CA = Authority("stapling CA")
MUST_STAPLE = x509.TLSFeature([x509.TLSFeatureType.status_request])
LIFE = timedelta(seconds=4)
"""Of a short answer: the next one is fetched after half of it."""


@contextmanager
def openssl_responder(folder: Path, port: int, *leaves: Leaf) -> Iterator[None]:
    """Of a real CA: its index of certificates, and ``openssl ocsp`` that answers from it."""
    (folder / "ca.pem").write_bytes(CA.pem)
    (folder / "ca.key").write_bytes(Leaf(CA.certificate, (), CA.private).key)
    (folder / "index.txt").write_text("".join(map(_entry, leaves)))
    argv = [str(find_server("openssl")), "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "ca.pem"]
    process = subprocess.Popen(
        [*argv, "-rkey", "ca.key", "-port", str(port), "-nmin", "60"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _entry(leaf: Leaf) -> str:
    """A line of ``openssl ca``'s index."""
    serial = f"{leaf.certificate.serial_number:X}"
    serial = serial.zfill(len(serial) + len(serial) % 2)
    return f"V\t{leaf.certificate.not_valid_after_utc:%y%m%d%H%M%SZ}\t\t{serial}\tunknown\t/CN=leaf {serial}\n"


@pytest.fixture(scope="module")
def server() -> Iterator[RevocationServer]:
    with RevocationServer(LIFE, short=CA, away=CA) as running:
        running.down.add("away")
        yield running


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, server: RevocationServer) -> Iterator[Up]:
    folder, port = tmp_path_factory.mktemp("stapling"), free_port()
    places = {"real": f"http://127.0.0.1:{port}", "short": server.url("short"), "away": server.url("away")}
    leaves = {
        f"{name}-{place}": CA.issue(
            named(f"{name}-{place}"),
            extensions=[answered_at(places[place]), *([MUST_STAPLE] if name == "demanded" else [])],
        )
        for name in ("lenient", "strict", "must", "demanded")
        for place in ("real", "short", "away")
    }
    silent = CA.issue(named("silent"))
    servers = [asking(name, "SIMPLE", credentialName=name) for name in (*leaves, "silent", "plain")]
    policies = [
        policy(name, tls={"ocspStapling": name.partition("-")[0].capitalize()})
        for name in leaves
        if not name.startswith("demanded")
    ]
    policies.append(policy("silent", tls={"ocspStapling": "Must"}))
    secrets = [pem(name, tls_crt=leaf.chain, tls_key=leaf.key, ca_crt=CA.pem) for name, leaf in leaves.items()]
    secrets.append(pem("silent", tls_crt=silent.chain, tls_key=silent.key, ca_crt=CA.pem))
    plain = leaves["lenient-real"]
    secrets.append(pem("plain", tls_crt=plain.chain, tls_key=plain.key))
    with Backend("web") as backend, openssl_responder(folder, port, *leaves.values()):
        with Up(folder, {"edge.yaml": world(servers, backend.port, *policies, *secrets)}) as running:
            yield running


def handshake(up: Up, name: str) -> tuple[bool, str]:
    """Whether it succeeds, and what the client says of the answer beside the certificate."""
    host, port = up.gateway(443)
    argv = [
        str(find_server("openssl")),
        "s_client",
        "-status",
        "-connect",
        f"{host}:{port}",
        "-servername",
        named(name),
    ]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    return "Cipher is (NONE)" not in done.stdout and "BEGIN CERTIFICATE" in done.stdout, done.stdout


def stapled(up: Up, name: str) -> bool:
    return "OCSP Response Status: successful" in handshake(up, name)[1]


@enforces("ClientTrafficPolicy.spec.tls.ocspStapling")
@pytest.mark.parametrize("name", ["lenient", "strict", "must", "demanded"])
def test_the_answer_of_a_real_responder_is_stapled(up: Up, name: str) -> None:
    eventually(lambda: stapled(up, f"{name}-real"))
    assert "Cert Status: good" in handshake(up, f"{name}-real")[1]


@pytest.mark.parametrize(("name", "shown"), [("lenient", True), ("strict", True), ("must", False), ("demanded", False)])
def test_without_an_answer(up: Up, name: str, shown: bool) -> None:
    found, said = handshake(up, f"{name}-away")
    assert found is shown
    assert ("OCSP response: no response sent" in said) is shown
    eventually(lambda: f'the certificate in Secret "shop/{name}-away" (status 503)' in up.output)


def test_nothing_is_stapled_that_nobody_asked_for(up: Up) -> None:
    assert not stapled(up, "plain")


def test_a_certificate_that_names_no_responder(up: Up) -> None:
    assert not handshake(up, "silent")[0]
    assert "ISM6204 ClientTrafficPolicy/shop/silent: no OCSP answer can be stapled" in up.output
    assert "the certificate names no OCSP responder" in up.output


def test_answers_are_renewed_before_they_end_and_missed_when_they_do(up: Up, server: RevocationServer) -> None:
    def since() -> str:
        found = re.search(r"This Update: (.*)", handshake(up, "must-short")[1])
        return found[1] if found else ""

    eventually(since)
    first = since()
    eventually(lambda: since() not in (first, ""), 60)
    server.down.add("short")
    eventually(lambda: not handshake(up, "must-short")[0], 60)
    eventually(lambda: not stapled(up, "lenient-short") and handshake(up, "lenient-short")[0], 60)
    eventually(lambda: not handshake(up, "strict-short")[0], 60)
    eventually(lambda: "ISM6205" in up.output, 60)
    server.down.remove("short")
    eventually(lambda: stapled(up, "must-short") and stapled(up, "strict-short"), 60)
