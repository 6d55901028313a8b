"""Tenants of one port: certificates, client authorities and requests of each are its own; certificates on demand."""

from __future__ import annotations

import concurrent.futures
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from isthmus.proxy.on_demand import MOST_SPELLINGS
from isthmus.xds.on_demand import FROM
from tests.real.backend import Backend, header
from tests.real.http2 import H2Client
from tests.real.pki import Authority, Leaf
from tests.real.traffic import Manifest, dump, gateway, routes, server, service, to, workload
from tests.real.traffic_credentials import secret
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

MANY = FROM + 5
HEALTHY = 200


@dataclass(frozen=True, slots=True)
class Tenants:
    """``servers`` certifies all hosts; each tenant has an authority of its own for its clients."""

    servers: Authority
    red: Authority
    blue: Authority

    def trusting(self, own: Path | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.servers.pem.decode())
        if own is not None:
            context.load_cert_chain(own)
        return context


def host(name: str) -> str:
    return f"{name}.example.com"


def customer(number: int) -> str:
    return f"c{number:04}.customers.example.net"


def https(name: str, *hosts: str, mode: str = "SIMPLE", credential: str | None = None) -> Manifest:
    tls = {"mode": mode, "credentialName": credential or name}
    return server(443, *hosts, protocol="HTTPS", name=name, tls=tls)


def keys(name: str, leaf: Leaf, clients: Authority | None = None) -> Manifest:
    data = {"tls.crt": leaf.chain, "tls.key": leaf.key}
    if clients is not None:
        data["ca.crt"] = clients.pem
    return secret(name, type="kubernetes.io/tls", data=data)


def customers(tenants: Tenants, count: int) -> str:
    """A server and a certificate each."""
    named = [customer(number) for number in range(count)]
    return dump(
        gateway("customers", *(https(f"s{n}", one) for n, one in enumerate(named)), selector={"app": "edge"}),
        *(keys(f"s{number}", tenants.servers.issue(one)) for number, one in enumerate(named)),
        routes("customers", ["*.customers.example.net"], {"route": [to("web")]}, gateways=["customers"]),
    )


def manifests(tenants: Tenants, port: int) -> str:
    # One certificate for both, as HTTP/2 clients need it to use a connection for both.
    both = tenants.servers.issue(host("red"), host("blue"), host("plain"), host("inner.wide"))
    return dump(
        gateway(
            "edge",
            https("red", host("red"), mode="MUTUAL"),
            https("blue", host("blue"), mode="MUTUAL"),
            https("plain", host("plain")),
            https("wide", host("*.wide"), credential="plain"),
            https("inner", host("inner.wide"), mode="MUTUAL", credential="blue"),
            selector={"app": "edge"},
        ),
        keys("red", both, tenants.red),
        keys("blue", both, tenants.blue),
        keys("plain", tenants.servers.issue(host("plain"), host("red"), host("*.wide"), host("inner.wide"))),
        routes("all", ["*.example.com"], {"route": [to("web")]}, gateways=["edge"]),
        service("web"),
        workload("web-1", port, {"app": "web"}),
    )


@pytest.fixture(scope="module")
def tenants() -> Tenants:
    return Tenants(Authority("servers"), Authority("red clients"), Authority("blue clients"))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, tenants: Tenants) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("tenants")
    with Backend() as backend:
        files = {"edge.yaml": manifests(tenants, backend.port), "customers.yaml": customers(tenants, MANY)}
        with Up(folder, files) as running:
            yield running


@pytest.fixture(scope="module")
def red(tenants: Tenants, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client of the red tenant."""
    leaf = tenants.red.issue("spiffe://cluster.local/ns/shop/sa/blue")
    return leaf.written(tmp_path_factory.mktemp("red"), "red")


def status(up: Up, name: str, context: ssl.SSLContext, authority: str | None = None) -> int:
    """Of a request by HTTP/1.1; 0: the handshake failed."""
    with httpx.Client(verify=context, trust_env=False, timeout=20) as client:
        try:
            options = {"headers": {"host": authority}} if authority else {}
            return up.send(client, "GET", f"https://{name}/", **options).status_code
        except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
            return 0


def test_each_tenant_has_an_authority_of_its_own(up: Up, tenants: Tenants, red: Path) -> None:
    assert status(up, host("red"), tenants.trusting(red)) == HEALTHY
    assert status(up, host("blue"), tenants.trusting(red)) == 0
    assert status(up, host("red"), tenants.trusting()) == 0
    assert status(up, host("plain"), tenants.trusting(red)) == HEALTHY


@pytest.mark.parametrize("asked", ["blue", "plain", "inner.wide", "BLUE", "blue."])
def test_a_connection_is_for_the_hosts_of_its_tenant(up: Up, tenants: Tenants, red: Path, asked: str) -> None:
    """With one certificate for all hosts, as a client that reuses connections sees it: go, and come by another one."""
    name = asked.upper() + ".EXAMPLE.COM" if asked.isupper() else host(asked)
    if asked.endswith("."):
        name = f"{asked}example.com."
    assert status(up, host("red"), tenants.trusting(red), f"{host('red')}:443") == HEALTHY
    assert status(up, host("red"), tenants.trusting(red), name) == 421
    with H2Client(up.gateway(443), tenants.trusting(red), host("red")) as client:
        assert client.get(host("red"))[0] == HEALTHY
        assert client.get(name)[0] == 421
        assert client.get(f"{name}:8443")[0] == 421
        assert client.get(name, **{"x-forwarded-host": host("red")})[0] == 421
        assert client.get(host("red"))[0] == HEALTHY, "the connection itself is as good as before"


def test_without_a_certificate_no_connection_leads_to_a_tenant_that_asks_for_one(up: Up, tenants: Tenants) -> None:
    with H2Client(up.gateway(443), tenants.trusting(), host("plain")) as client:
        assert client.get(host("plain"))[0] == HEALTHY
        for asked in (host("red"), host("blue"), host("inner.wide")):
            assert client.get(asked)[0] == 421
    with H2Client(up.gateway(443), tenants.trusting(), host("other.wide")) as client:
        assert client.get(host("another.wide"))[0] == HEALTHY, "the same server"
        assert client.get(host("inner.wide"))[0] == 421, "within its wildcard, and asks for a certificate"


def test_a_host_that_nobody_has_is_told_to_go_elsewhere(up: Up, tenants: Tenants) -> None:
    assert status(up, host("plain"), tenants.trusting(), "nobody.example.org") == 421


def served(up: Up, tenants: Tenants, name: str) -> bytes | None:
    """The certificate (DER) for a server name, as it was written; None: the handshake failed."""
    context = tenants.trusting()
    context.check_hostname = False
    try:
        with (
            socket.create_connection(up.gateway(443), 60) as raw,
            context.wrap_socket(raw, server_hostname=name) as secured,
        ):
            return secured.getpeercert(binary_form=True)
    except (ssl.SSLError, ConnectionError):
        return None


def held(up: Up) -> set[str]:
    """The secrets that the gateway's Envoy has or waits for."""
    transport = httpx.HTTPTransport(uds=up.ready["gateways"][0]["admin_socket"], verify=False)
    with httpx.Client(transport=transport, timeout=20) as admin:
        configs = admin.get("http://admin/config_dump").json()["configs"]
    secrets = next(one for one in configs if one["@type"].endswith("SecretsConfigDump"))
    kinds = ("dynamic_active_secrets", "dynamic_warming_secrets")
    return {one["name"] for kind in kinds for one in secrets.get(kind, ())}


def test_many_hosts_share_a_chain_and_each_has_its_certificate(up: Up, tenants: Tenants) -> None:
    assert customer(3) not in held(up), "nobody asked for it yet"
    with httpx.Client(verify=tenants.trusting(), trust_env=False, timeout=20) as client:
        for number in (3, MANY - 1, 3):
            assert up.send(client, "GET", f"https://{customer(number)}/").status_code == HEALTHY
    assert customer(3) in held(up)
    assert customer(4) not in held(up)
    assert served(up, tenants, customer(3)) != served(up, tenants, customer(4))


def test_letters_of_a_server_name_do_not_matter(up: Up, tenants: Tenants) -> None:
    assert served(up, tenants, customer(5).upper()) == served(up, tenants, customer(5)) is not None


def test_names_of_nobody_are_refused_at_once_and_leave_nothing(up: Up, tenants: Tenants) -> None:
    """A scanner's names: neither Envoy nor the agent keeps anything for them."""
    before = held(up)
    names = [f"{number:05}.customers.example.net" for number in range(100)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda name: served(up, tenants, name), names)) == {None}
    assert held(up) == before


def test_spellings_of_a_name_are_kept_a_few_at_a_time(up: Up, tenants: Tenants) -> None:
    """Two to the power of its letters are one host's; whoever counts on that does not fill any memory."""
    name = customer(9)
    letters = [at for at, letter in enumerate(name) if letter.isalpha()]

    def spelt(number: int) -> str:
        upper = {at for bit, at in enumerate(letters) if number >> bit & 1}
        return "".join(letter.upper() if at in upper else letter for at, letter in enumerate(name))

    names = [spelt(number) for number in range(1, MOST_SPELLINGS + 60)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda one: served(up, tenants, one), names))
    assert found == {served(up, tenants, name)}
    eventually(lambda: sum(one.lower() == name for one in held(up)) <= MOST_SPELLINGS + 1)
    assert served(up, tenants, names[0]) is not None, "an old one comes back"


def test_a_renewed_certificate_is_served_and_a_host_that_goes_is_gone(up: Up, tenants: Tenants) -> None:
    first = served(up, tenants, customer(7))
    assert first is not None
    up.write("customers.yaml", customers(tenants, MANY - 1))
    eventually(lambda: served(up, tenants, customer(7)) not in (None, first))
    eventually(lambda: served(up, tenants, customer(MANY - 1)) is None)


def test_a_programs_headers_are_its_hosts(up: Up, tenants: Tenants) -> None:
    with httpx.Client(verify=tenants.trusting(), trust_env=False, timeout=20) as client:
        saw = up.send(client, "GET", f"https://{customer(8)}/").json()
    assert (header(saw, "host") or "").partition(":")[0] == customer(8)
