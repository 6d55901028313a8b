"""A real PostgreSQL behind the mesh: mutual TLS on plain TCP, decided by identity, told by both hops' logs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.log import logged
from tests.real.postgres import Postgres
from tests.real.traffic import Caller, Manifest, caller, dump, manifest, service, workload
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

STORE = "store.shop.svc.cluster.local"
PORT = 5432
DENIED = "server closed the connection unexpectedly"


def access(*rules: Manifest, name: str = "store", action: str = "ALLOW") -> Manifest:
    selected = {"selector": {"matchLabels": {"app": "store"}}}
    return manifest("AuthorizationPolicy", name, {**selected, "action": action, "rules": list(rules)})


def from_(account: str) -> Manifest:
    return {"from": [{"source": {"principals": [f"cluster.local/ns/shop/sa/{account}"]}}]}


def manifests(port: int, folder: Path) -> Iterator[Manifest]:
    yield manifest("PeerAuthentication", "default", {"mtls": {"mode": "STRICT"}}, "istio-system")
    yield service("store", ports=[{"name": "tcp-postgres", "port": PORT}])
    yield workload("store-1", port, {"app": "store"}, ports={"tcp-postgres": port}, serviceAccount="store")
    upstreams = [{"host": STORE, "port": PORT}]
    for name in ("orders", "stranger"):
        yield caller(name, folder, serviceAccount=name, upstreams=upstreams)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("postgres")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as postgres:
        yield postgres


@pytest.fixture(scope="module")
def up(folder: Path, postgres: Postgres) -> Iterator[Up]:
    found = manifests(postgres.port, folder)
    with Up(folder, {"mesh.yaml": dump(*found), "access.yaml": dump(access(from_("orders")))}) as up:
        yield up


def ask(
    postgres: Postgres, folder: Path, who: str, statement: str = "select 41 + 1"
) -> subprocess.CompletedProcess[str]:
    """Through the local address that the program ``who`` is told."""
    host, _, port = Caller(who, folder).env["UPSTREAM_STORE_SHOP_SVC_CLUSTER_LOCAL_5432"].rpartition(":")
    return postgres.query(host, int(port), statement)


def test_who_is_allowed_asks_the_database(up: Up, postgres: Postgres, folder: Path) -> None:
    answer = ask(postgres, folder, "orders")
    assert (answer.returncode, answer.stdout.strip()) == (0, "42"), answer.stderr
    large = ask(postgres, folder, "orders", "select repeat('x', 3000000)")
    assert len(large.stdout.strip()) == 3_000_000


def test_both_hops_tell_both_identities(up: Up, postgres: Postgres, folder: Path) -> None:
    assert ask(postgres, folder, "orders").returncode == 0
    orders, store = (f"spiffe://cluster.local/ns/shop/sa/{name}" for name in ("orders", "store"))
    out = logged(up, "sidecar~shop~orders", upstream_peer=store)
    assert (out["hop"], out["self"], out["upstream_cluster"]) == ("outbound", orders, f"outbound|{PORT}||{STORE}")
    into = logged(up, "sidecar~shop~store-1", peer=orders, allow_policy="ns[shop]-policy[store]-rule[0]")
    assert (into["hop"], into["self"], into["tls_version"]) == ("inbound", store, "TLSv1.3")
    assert into["bytes_sent"] > 0


def test_who_is_not_allowed_is_closed(up: Up, postgres: Postgres, folder: Path) -> None:
    answer = ask(postgres, folder, "stranger")
    assert answer.returncode != 0
    assert DENIED in answer.stderr
    stranger = "spiffe://cluster.local/ns/shop/sa/stranger"
    line = logged(up, "sidecar~shop~store-1", peer=stranger)
    assert (line["allow_policy"], line["allow_result"]) == (None, "denied")
    assert line["allow_policies"] == ["ns[shop]-policy[store]-rule[0]"]


def test_plaintext_to_the_sidecar_is_closed(up: Up, postgres: Postgres) -> None:
    """STRICT: what comes without mutual TLS, or with the program's own TLS, is nobody."""
    (inbound,) = up.workload("store-1")["inbound"].values()
    host, _, port = inbound.rpartition(":")
    for mode in ("disable", "require"):
        answer = postgres.query(host, int(port), "select 1", {"PGSSLMODE": mode})
        assert answer.returncode != 0, answer.stdout


def test_ports_and_denials(up: Up, postgres: Postgres, folder: Path) -> None:
    """A rule for the port that the program listens on takes it; one for another port does not; DENY comes first."""

    def allowed() -> bool:
        return ask(postgres, folder, "orders").returncode == 0

    here, elsewhere = ({"to": [{"operation": {"ports": [str(port)]}}]} for port in (postgres.port, 1))
    up.write("access.yaml", dump(access({**from_("orders"), **elsewhere})))
    eventually(lambda: not allowed())
    up.write("access.yaml", dump(access({**from_("orders"), **here})))
    eventually(allowed)
    up.write("deny.yaml", dump(access(from_("orders"), name="no-orders", action="DENY")))
    eventually(lambda: not allowed())
    peer = "spiffe://cluster.local/ns/shop/sa/orders"
    assert logged(up, "sidecar~shop~store-1", peer=peer, deny_policy="ns[shop]-policy[no-orders]-rule[0]")
    up.remove("deny.yaml")
    eventually(allowed)
