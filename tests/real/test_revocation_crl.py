"""Lists of revoked client certificates that are fetched where the CAs publish them, on real Envoys."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.real.backend import Backend
from tests.real.edge import REFUSED, Clients, asking, named, pem, validating, world
from tests.real.fields import enforces
from tests.real.pki import Authority
from tests.real.revocation_server import RevocationServer, with_points
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

CRL = "ClientTrafficPolicy.spec.tls.clientValidation.crl."
ROOT = Authority("published root")
INTERMEDIATE = ROOT.intermediate("published intermediate")
UNPUBLISHED = Authority("unpublished root")
SERVED_ALONE = Authority("served alone")
GOOD, REVOKED, REVOKED_LATER = ROOT.issue("good"), ROOT.issue("revoked"), ROOT.issue("later")
BELOW, BELOW_REVOKED = INTERMEDIATE.issue("below"), INTERMEDIATE.issue("below-revoked")
OF_UNPUBLISHED = UNPUBLISHED.issue("unpublished")
OF_ALONE = SERVED_ALONE.issue("alone")
LIFE = timedelta(seconds=14)
"""Of a list: the next one is fetched after half of it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crl")


@pytest.fixture(scope="module")
def server() -> Iterator[RevocationServer]:
    with RevocationServer(LIFE, root=ROOT, intermediate=INTERMEDIATE, alone=SERVED_ALONE) as running:
        running.revoke(REVOKED)
        running.revoke(BELOW_REVOKED)
        yield running


@pytest.fixture(scope="module")
def up(folder: Path, server: RevocationServer) -> Iterator[Up]:
    points = {name: server.url(f"{name}.crl") for name in ("root", "intermediate", "alone")}
    servers = [
        asking("points", caCertCredentialName="root"),
        asking("own", caCertCredentialName="own-points"),
        asking("two", caCertCredentialName="two"),
        asking("leaf", caCertCredentialName="root"),
        asking("missing", caCertCredentialName="root"),
        asking("optional", "OPTIONAL_MUTUAL", caCertCredentialName="root"),
        asking("ending", caCertCredentialName="alone"),
        asking("unlisted", "OPTIONAL_MUTUAL", caCertCredentialName="root"),
    ]
    policies = [
        validating("points", crl={"distributionPoints": [points["root"], points["intermediate"]]}),
        validating("own", crl={"fromCertificates": True}),
        validating("two", crl={"distributionPoints": [points["root"]]}),
        validating("leaf", crl={"distributionPoints": [points["intermediate"]], "onlyVerifyLeafCertificate": True}),
        validating("missing", crl={"distributionPoints": [server.url("strangers.crl")]}),
        validating("unlisted", crl={"distributionPoints": [server.url("strangers.crl")]}),
        validating("optional", crl={"distributionPoints": [points["root"]]}),
        validating("ending", crl={"distributionPoints": [points["alone"]]}),
    ]
    secrets = [
        pem("root", ca_crt=ROOT.pem + INTERMEDIATE.pem),
        pem("two", ca_crt=ROOT.pem + UNPUBLISHED.pem),
        pem("own-points", ca_crt=with_points(ROOT, points["root"]) + with_points(INTERMEDIATE, points["root"])),
        pem("alone", ca_crt=SERVED_ALONE.pem),
    ]
    server.down.add("strangers.crl")
    with Backend("web") as backend:
        manifests = {"edge.yaml": world(servers, backend.port, *policies, *secrets)}
        with Up(folder, manifests) as running:
            yield running


@pytest.fixture(scope="module")
def clients(up: Up, folder: Path) -> Clients:
    made = Clients(up, folder)
    # Lists come a moment after the start.
    for name, leaf in (("points", GOOD), ("own", GOOD), ("two", GOOD), ("ending", OF_ALONE)):
        eventually(lambda name=name, leaf=leaf: made.status(name, leaf) == 200)
    return made


def metrics(up: Up) -> str:
    return httpx.get(f"{up.ready['control_plane']['http']}/metrics", trust_env=False, timeout=30, verify=False).text


def end_of(up: Up, name: str) -> float:
    """When the list ends, in Unix seconds."""
    [end] = re.findall(rf'isthmus_crl_next_update_timestamp_seconds{{url=".*/{name}.crl"}} (\S+)', metrics(up))
    return float(end)


@enforces(CRL + "distributionPoints")
def test_who_is_on_a_published_list_does_not_get_in(clients: Clients) -> None:
    leaves = {"good": GOOD, "revoked": REVOKED, "below": BELOW, "below revoked": BELOW_REVOKED}
    assert clients.refused("points", leaves) == {"revoked", "below revoked"}


@enforces(CRL + "fromCertificates")
def test_the_cas_own_distribution_points(clients: Clients) -> None:
    # The intermediate's own list is nowhere: its certificates are refused.
    assert clients.refused("own", {"good": GOOD, "revoked": REVOKED, "below": BELOW}) == {"revoked", "below"}


def test_a_ca_without_a_list_lets_nobody_in_beside_one_that_has(clients: Clients, up: Up) -> None:
    assert clients.refused("two", {"good": GOOD, "unpublished": OF_UNPUBLISHED}) == {"unpublished"}
    assert "ISM6203" in up.output
    assert 'client CA "CN=unpublished root"' in up.output


def test_the_leaf_alone(clients: Clients) -> None:
    leaves = {"below": BELOW, "below revoked": BELOW_REVOKED}
    eventually(lambda: clients.refused("leaf", leaves) == {"below revoked"})


def test_without_any_list_nobody_gets_in(clients: Clients, up: Up) -> None:
    assert clients.refused("missing", {"good": GOOD, "none": None}) == {"good", "none"}
    assert clients.refused("unlisted", {"good": GOOD, "none": None}) == {"good"}
    assert "ISM6200" in up.output
    assert "status 503" in up.output


def test_without_a_certificate_nothing_is_looked_up(clients: Clients) -> None:
    eventually(lambda: clients.status("optional", None) == 200)
    assert clients.refused("optional", {"good": GOOD, "revoked": REVOKED}) == {"revoked"}


def test_who_is_revoked_later_goes_at_once_and_nobody_else_notices(
    clients: Clients, up: Up, server: RevocationServer
) -> None:
    """Its connection that stands ends; those of others end as gently as at any change of their listener."""
    url = f"https://{named('points')}/"
    with (
        httpx.Client(verify=clients.context(REVOKED_LATER), trust_env=False, timeout=30) as later,
        httpx.Client(verify=clients.context(GOOD), trust_env=False, timeout=30) as good,
    ):
        assert (up.send(later, "GET", url).status_code, up.send(good, "GET", url).status_code) == (200, 200)
        server.revoke(REVOKED_LATER)
        deadline = time.monotonic() + 60
        failed: list[object] = []
        while True:
            failed += [found for found in (up.send(good, "GET", url).status_code,) if found != 200]
            try:
                up.send(later, "GET", url)
            except (httpx.HTTPError, ssl.SSLError):
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert failed == []
    assert clients.refused("points", {"good": GOOD, "later": REVOKED_LATER}) == {"later"}


def test_a_list_that_has_ended_lets_nobody_in_and_the_next_one_does(
    clients: Clients, up: Up, server: RevocationServer
) -> None:
    assert clients.status("ending", OF_ALONE) == 200
    server.down.add("alone.crl")
    eventually(lambda: clients.status("ending", OF_ALONE) == REFUSED, 60)
    eventually(lambda: "ISM6201" in up.output and "ISM6202" in up.output)
    assert 0 < end_of(up, "alone") <= time.time()
    assert re.search(r'isthmus_crl_fetches_total\{result="failure"\} [1-9]', metrics(up))
    server.down.remove("alone.crl")
    eventually(lambda: clients.status("ending", OF_ALONE) == 200, 60)


def test_a_start_has_what_the_last_one_fetched(clients: Clients, up: Up, server: RevocationServer) -> None:
    """The CA's server is away; who has a list from before goes on."""
    server.life = timedelta(hours=1)
    eventually(lambda: min(end_of(up, "root"), end_of(up, "intermediate")) > time.time() + 1000, 60)
    server.down |= {"root.crl", "intermediate.crl"}
    up.stop()
    up.start()
    assert clients.refused("points", {"good": GOOD, "revoked": REVOKED}) == {"revoked"}
