"""Client certificates that are revoked by OCSP: refused before HTTP, on real Envoys."""

from __future__ import annotations

import os
import signal
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.real.backend import Backend
from tests.real.edge import REFUSED, STRANGERS, Clients, asking, named, pem, validating, world
from tests.real.fields import enforces
from tests.real.log import logged
from tests.real.pki import Authority, Leaf
from tests.real.revocation_server import RevocationServer, answered_at
from tests.real.up import Up, arguments_of, children_of, eventually

pytestmark = pytest.mark.real

OCSP = "ClientTrafficPolicy.spec.tls.clientValidation.ocsp."
ROOT = Authority("answering root")
MAX_AGE = 5.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ocsp")


@pytest.fixture(scope="module")
def server() -> Iterator[RevocationServer]:
    with RevocationServer(timedelta(hours=1), root=ROOT, away=ROOT, other=ROOT, slow=ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def up(folder: Path, server: RevocationServer) -> Iterator[Up]:
    servers = [
        asking("required", caCertCredentialName="root"),
        asking("best-effort", caCertCredentialName="root"),
        asking("own", caCertCredentialName="root"),
        asking("slow", caCertCredentialName="root"),
        asking("patient", caCertCredentialName="root"),
        asking("aging", caCertCredentialName="root"),
        asking("optional", "OPTIONAL_MUTUAL", caCertCredentialName="root"),
        asking("none", caCertCredentialName="root"),
    ]
    policies = [
        validating("required", ocsp={"mode": "Required"}),
        validating("best-effort", ocsp={"mode": "BestEffort"}),
        validating("own", ocsp={"mode": "Required", "responder": server.url("other")}),
        validating("slow", ocsp={"mode": "Required", "responder": server.url("slow"), "timeout": "100ms"}),
        validating("patient", ocsp={"mode": "Required", "responder": server.url("slow"), "timeout": "20s"}),
        validating("aging", ocsp={"mode": "Required", "maxAge": f"{MAX_AGE:g}s"}),
        validating("optional", ocsp={"mode": "Required"}),
    ]
    with Backend("web") as backend:
        text = world(servers, backend.port, *policies, pem("root", ca_crt=ROOT.pem))
        with Up(folder, {"edge.yaml": text}) as running:
            yield running


@pytest.fixture(scope="module")
def clients(up: Up, folder: Path) -> Clients:
    return Clients(up, folder)


def process_of(up: Up, command: str) -> int:
    """The child of ``up`` that runs ``isthmus COMMAND``."""
    for pid in children_of(up.process.pid):
        if arguments_of(pid)[1:4] == ["-m", "isthmus", command]:
            return pid
    raise AssertionError(command)


def issue(server: RevocationServer, name: str, at: str = "root") -> Leaf:
    return ROOT.issue(name, extensions=[answered_at(server.url(at))])


@enforces(OCSP + "mode")
def test_who_is_said_to_be_revoked_does_not_get_in(clients: Clients, up: Up, server: RevocationServer) -> None:
    leaves = {name: issue(server, name) for name in ("good", "revoked", "unknown")}
    leaves |= {"away": issue(server, "away", "away"), "silent": ROOT.issue("silent")}
    server.revoke(leaves["revoked"])
    server.unknown.add(leaves["unknown"].certificate.serial_number)
    server.down.add("away")
    assert clients.refused("required", leaves) == {"revoked", "unknown", "away", "silent"}
    assert clients.refused("best-effort", leaves) == {"revoked"}
    assert clients.refused("none", leaves) == set()
    assert clients.refused("required", {"stranger": STRANGERS.issue("stranger"), "none": None}) == {"stranger", "none"}
    serial = f"serial {leaves['revoked'].certificate.serial_number:x}"
    said = [f"client certificate refused: reason=ocsp_revoked {serial}, 'revoked'; server name {named('required')}"]
    for reason in ("ocsp_unknown", "ocsp_unanswered", "ocsp_no_responder"):
        said += [f"refused: reason={reason} ", f"let in: reason={reason} "]
    eventually(lambda: [text for text in said if text not in up.output] == [])


def test_the_refusal_is_an_alert_before_any_http(clients: Clients, up: Up, server: RevocationServer) -> None:
    leaf = issue(server, "alerted")
    server.revoke(leaf)
    with (
        httpx.Client(verify=clients.context(leaf), trust_env=False, timeout=30) as client,
        pytest.raises(httpx.ReadError, match=r"(?i)alert access denied"),
    ):
        up.send(client, "GET", f"https://{named('required')}/")


def test_without_a_certificate_nobody_is_asked(clients: Clients, server: RevocationServer) -> None:
    before = server.asked.total()
    assert clients.status("optional", None) == 200
    assert server.asked.total() == before
    leaf = issue(server, "optional")
    server.revoke(leaf)
    assert clients.status("optional", leaf) == REFUSED


@enforces(OCSP + "responder")
def test_the_policy_names_the_responder(clients: Clients, server: RevocationServer) -> None:
    good, revoked = ROOT.issue("good"), ROOT.issue("revoked")
    server.revoke(revoked)
    assert clients.refused("own", {"good": good, "revoked": revoked}) == {"revoked"}
    assert server.asked["other"] == 2


@enforces(OCSP + "timeout")
def test_how_long_a_connection_waits(clients: Clients, server: RevocationServer) -> None:
    server.delays["slow"] = 1.0
    assert clients.status("slow", ROOT.issue("slow")) == REFUSED
    assert clients.status("patient", ROOT.issue("patient")) == 200


def test_many_connections_are_one_question(clients: Clients, server: RevocationServer) -> None:
    leaf, before = issue(server, "often"), server.asked["root"]
    assert [clients.status("required", leaf) for _ in range(5)] == [200] * 5
    assert server.asked["root"] == before + 1


@enforces(OCSP + "maxAge")
def test_an_answer_and_what_stands_on_it_have_an_end(clients: Clients, up: Up, server: RevocationServer) -> None:
    leaf = issue(server, "aging")
    url = f"https://{named('aging')}/"
    with httpx.Client(verify=clients.context(leaf), trust_env=False, timeout=30) as standing:
        assert up.send(standing, "GET", url).status_code == 200
        server.revoke(leaf)
        began = time.monotonic()
        assert up.send(standing, "GET", url).status_code == 200, "it stands, and its answer holds"
        while True:
            try:
                up.send(standing, "GET", url)
            except (httpx.HTTPError, ssl.SSLError):
                break
            # An answer that is as old as it may be, and a connection that began with it; and a slow machine.
            assert time.monotonic() < began + 2 * MAX_AGE + 60
            time.sleep(0.1)
    assert clients.status("aging", leaf) == REFUSED
    # What has a longer life stands still.
    assert clients.status("required", issue(server, "lasting")) == 200


def test_an_agent_that_is_away_lets_nobody_in_and_a_control_plane_that_is_away_everybody(
    clients: Clients, up: Up, server: RevocationServer
) -> None:
    leaf = issue(server, "steady")
    plane, agent = process_of(up, "serve"), process_of(up, "agent")
    os.kill(plane, signal.SIGSTOP)
    try:
        assert clients.status("required", leaf) == 200
        assert clients.status("required", issue(server, "new")) == 200
    finally:
        os.kill(plane, signal.SIGCONT)
    os.kill(agent, signal.SIGSTOP)
    try:
        assert clients.status("required", leaf) == REFUSED
        assert clients.status("none", leaf) == 200
    finally:
        os.kill(agent, signal.SIGCONT)
    eventually(lambda: clients.status("required", leaf) == 200)


def test_the_access_log_has_the_reason(clients: Clients, up: Up, server: RevocationServer) -> None:
    leaf = ROOT.issue("logged", "spiffe://logged", extensions=[answered_at(server.url("root"))])
    server.revoke(leaf)
    assert clients.status("required", leaf) == REFUSED
    line = logged(up, "gateway~shop~edge", peer="spiffe://logged")
    assert (line["reason"], line["response_flags"], line["sni"]) == ("ocsp_revoked", "UAEX", named("required"))
