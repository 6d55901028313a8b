"""TLS that begins at the caller's proxy, towards servers that know nothing of the mesh."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.real.destination import Case, Level, Server, at_every_level, logged, marked
from tests.real.traffic import Caller, Manifest, caller, dump, gateway, manifest, routes, server, to
from tests.real.traffic_credentials import Authority, Pair, secret, serving, tls_data
from tests.real.up import Up, contents, eventually

pytestmark = pytest.mark.real

API = "api.example.com"
CLIENT = "partner.example.com"
WILD = "*.wild.example.com"
_NAMED = {"subjectAltNames": [API]}


class World:
    """Servers of an authority and of a stranger's, and the files that rules name."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self.authority, self.stranger = Authority("authority"), Authority("stranger")
        self.client = self.authority.certify(CLIENT)
        self.roots = self.write("roots.pem", self.authority.pem)
        self.changing = self.write("changing.pem", self.stranger.pem)
        self.certificate = self.write("client.pem", self.client.certificate)
        self.key = self.write("client-key.pem", self.client.key)
        self.other_key = self.write("other-key.pem", self.authority.certify(CLIENT).key)
        revoked = self.authority.certify(API)
        self.revoked_list = self.write("revoked.pem", self.authority.revoke(revoked))
        self.empty_list = self.write("nothing-revoked.pem", self.authority.revoke())
        hosts = [case.host_at(level) for case in (Case("simple", {}, ()),) for level in Level]
        self.hosts = self.serve(self.authority.certify(*hosts))
        self.api = self.serve(self.authority.certify(API))
        self.wild = self.serve(self.authority.certify("a.wild.example.com"))
        self.strange = self.serve(self.stranger.certify(API))
        self.expired = self.serve(self.authority.certify(API, ended=True))
        self.revoked = self.serve(revoked)
        self.plain = stack.enter_context(Server())
        self.mutual = self.serve(self.authority.certify(API), clients=self.authority.pem)

    def write(self, name: str, content: bytes) -> str:
        file = self._folder / name
        file.write_bytes(content)
        return str(file)

    def serve(self, pair: Pair, clients: bytes = b"") -> Server:
        return self._stack.enter_context(Server(tls=serving(self._folder, pair, clients)))


def cases(world: World) -> dict[str, Case]:
    def tls(name: str, to: Server, mode: str = "SIMPLE", **settings: Any) -> Case:
        return Case(name, {"tls": {"mode": mode, **settings}}, (to.endpoint,))

    def only(name: str, to: Server, **settings: Any) -> Case:
        return Case(name, {"tls": {"mode": "SIMPLE", **settings}}, (to.endpoint,), levels=(Level.SERVICE,))

    roots = {"caCertificates": world.roots}
    files = {**roots, "clientCertificate": world.certificate, **_NAMED}
    found = [
        tls("simple", world.hosts, **roots),
        tls("strange", world.strange, **roots, **_NAMED),
        tls("trusting", world.strange, insecureSkipVerify=True),
        tls("named", world.api, **roots, **_NAMED, sni="sni.example.com"),
        tls("by-sni", world.api, **roots, sni=API),
        tls("misnamed", world.api, **roots, subjectAltNames=["other.example.com"]),
        tls("mutual", world.mutual, "MUTUAL", **files, privateKey=world.key),
        tls("without", world.mutual, **roots, **_NAMED),
        tls("mismatched", world.mutual, "MUTUAL", **files, privateKey=world.other_key),
        tls("credential", world.mutual, "MUTUAL", credentialName="partner", **_NAMED),
        tls("elsewhere", world.mutual, "MUTUAL", credentialName="bankers", **_NAMED),
        tls("revoked", world.revoked, **roots, **_NAMED, caCrl=world.revoked_list),
        tls("unrevoked", world.revoked, **roots, **_NAMED, caCrl=world.empty_list),
        only("expired", world.expired, **roots, **_NAMED),
        only("system", world.api, **_NAMED),
        only("system-said", world.api, **_NAMED, caCertificates="system"),
        only("system-strange", world.strange, **_NAMED),
        only("changing", world.api, **_NAMED, caCertificates=world.changing),
        only("missing", world.api, **_NAMED, caCertificates="/nowhere/roots.pem"),
        only("credential-simple", world.api, **_NAMED, credentialName="roots"),
        Case("wild", {"tls": {"mode": "SIMPLE", **roots}}, (world.wild.endpoint,), levels=(Level.SERVICE,), host=WILD),
    ]
    return {case.name: case for case in found}


def passing(plain: Server) -> Iterator[Manifest]:
    """Hosts that callers resolve: connections to them are passed on as they are."""
    for name in ("passed", "passed-in-tls"):
        host = f"{name}.localhost"
        port = {"number": plain.port, "name": "http", "protocol": "HTTP"}
        yield manifest("ServiceEntry", name, {"hosts": [host], "ports": [port], "resolution": "NONE"})
    yield manifest("DestinationRule", "passed", {"host": host, "trafficPolicy": {"tls": {"mode": "SIMPLE"}}})


def edges(case: dict[str, Case]) -> Iterator[Manifest]:
    """The same services, called through a gateway."""
    yield gateway("edge", server(80, "*.example.com"))
    for name in ("simple", "strange", "credential", "elsewhere"):
        host = case[name].host_at(Level.SERVICE)
        yield routes(f"edge-{name}", [host], {"route": [to(host, 80)]}, gateways=["edge"])


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def world(stack: ExitStack, folder: Path) -> World:
    return World(stack, folder)


@pytest.fixture(scope="module")
def case(world: World) -> dict[str, Case]:
    return cases(world)


@pytest.fixture(scope="module")
def up(world: World, case: dict[str, Case], stack: ExitStack, folder: Path) -> Up:
    """The system's roots are, here, those of the authority."""
    held = tls_data(world.client, **{"ca.crt": world.authority.pem})
    written = [
        caller("front", folder),
        secret("partner", data=held),
        secret("bankers", "bank", data=held),
        secret("roots-cacert", data={"ca.crt": world.authority.pem}),
        *(one for each in case.values() for one in each.manifests()),
        *edges(case),
        *passing(world.plain),
    ]
    running = Up(folder, {"all.yaml": dump(*written)}, env={"SSL_CERT_FILE": world.roots})
    return stack.enter_context(running)


@pytest.fixture(scope="module")
def front(up: Up, folder: Path) -> Caller:
    return Caller("front", folder)


def refused(up: Up, front: Caller, case: Case, level: Level, server: Server, why: str) -> bool:
    """Whether a request is answered with 503 for the reason ``why``, and the server has seen none."""
    before = len(server.seen)
    url, mark = marked(case.url(level))
    assert front.status(url) == 503
    assert why in logged(up, mark)["upstream_failure"]
    return len(server.seen) == before


UNVERIFIED = "CERTIFICATE_VERIFY_FAILED"


@at_every_level("tls.mode", "tls.caCertificates")
def test_simple(up: Up, front: Caller, case: dict[str, Case], world: World, level: Level) -> None:
    """The server's certificate is for the service's host, and is asked for by it."""
    simple = case["simple"]
    assert front.status(simple.url(level)) == 200
    assert world.hosts.seen[-1].server_name == simple.host_at(level)
    assert world.hosts.seen[-1].client is None
    assert front.status(simple.url(level, ruled=False)) != 200, "without the rule it is plaintext"
    assert refused(up, front, case["strange"], level, world.strange, UNVERIFIED)


@at_every_level("tls.sni", "tls.subjectAltNames")
def test_names(up: Up, front: Caller, case: dict[str, Case], world: World, level: Level) -> None:
    assert front.status(case["named"].url(level)) == 200
    assert world.api.seen[-1].server_name == "sni.example.com"
    assert front.status(case["by-sni"].url(level)) == 200, "the SNI is the name, where no other is given"
    assert world.api.seen[-1].server_name == API
    assert refused(up, front, case["misnamed"], level, world.api, "SAN")


@at_every_level("tls.clientCertificate", "tls.privateKey")
def test_a_certificate_of_ones_own(up: Up, front: Caller, case: dict[str, Case], world: World, level: Level) -> None:
    assert front.status(case["mutual"].url(level)) == 200
    assert world.mutual.seen[-1].client == CLIENT
    before = len(world.mutual.seen)
    assert front.status(case["without"].url(level)) == 503
    assert front.status(case["mismatched"].url(level)) == 503
    assert len(world.mutual.seen) == before


@at_every_level("tls.credentialName")
def test_a_certificate_from_a_secret(up: Up, front: Caller, case: dict[str, Case], world: World, level: Level) -> None:
    """A Secret is for the proxies of its namespace; who has it not connects to nobody."""
    assert front.status(case["credential"].url(level)) == 200
    assert world.mutual.seen[-1].client == CLIENT
    before = len(world.mutual.seen)
    assert front.status(case["elsewhere"].url(level)) == 503
    assert len(world.mutual.seen) == before


@at_every_level("tls.insecureSkipVerify")
def test_without_verification(up: Up, front: Caller, case: dict[str, Case], world: World, level: Level) -> None:
    assert front.status(case["trusting"].url(level)) == 200
    assert refused(up, front, case["strange"], level, world.strange, UNVERIFIED)


@at_every_level("tls.caCrl")
def test_revoked(up: Up, front: Caller, case: dict[str, Case], world: World, level: Level) -> None:
    assert front.status(case["unrevoked"].url(level)) == 200
    assert refused(up, front, case["revoked"], level, world.revoked, UNVERIFIED)


def test_expired(up: Up, front: Caller, case: dict[str, Case], world: World) -> None:
    assert refused(up, front, case["expired"], Level.SERVICE, world.expired, UNVERIFIED)


def test_the_systems_roots_are_the_default(up: Up, front: Caller, case: dict[str, Case], world: World) -> None:
    assert front.status(case["system"].url(Level.SERVICE)) == 200
    assert front.status(case["system-said"].url(Level.SERVICE)) == 200
    assert refused(up, front, case["system-strange"], Level.SERVICE, world.strange, UNVERIFIED)


def test_roots_from_a_secret(front: Caller, case: dict[str, Case]) -> None:
    assert front.status(case["credential-simple"].url(Level.SERVICE)) == 200


def test_files_are_read_again(up: Up, front: Caller, case: dict[str, Case], world: World) -> None:
    """Written in place: what is half written is not taken."""
    changing = case["changing"]
    assert refused(up, front, changing, Level.SERVICE, world.api, UNVERIFIED)
    file = Path(world.changing)
    file.write_bytes(world.authority.pem[:100])
    file.write_bytes(world.authority.pem)
    eventually(lambda: front.status(changing.url(Level.SERVICE)) == 200, 30)


def test_a_file_that_is_not_there(up: Up, front: Caller, case: dict[str, Case], world: World) -> None:
    before = len(world.api.seen)
    assert front.status(case["missing"].url(Level.SERVICE)) == 503
    assert len(world.api.seen) == before
    assert "/nowhere/roots.pem: No such file or directory" in up.output


def test_behind_a_wildcard_each_request_names_its_server(up: Up, front: Caller, world: World) -> None:
    assert front.status("http://a.wild.example.com/") == 200
    assert world.wild.seen[-1].server_name == "a.wild.example.com"
    url, mark = marked("http://b.wild.example.com/")
    assert front.status(url) == 503, "the certificate is a's alone"
    assert UNVERIFIED in logged(up, mark)["upstream_failure"]


def test_who_resolves_hosts_himself_gets_no_plaintext_for_tls(front: Caller, world: World) -> None:
    assert front.status(f"http://passed.localhost:{world.plain.port}/") == 200
    before = len(world.plain.seen)
    assert front.status(f"http://passed-in-tls.localhost:{world.plain.port}/") == 503
    assert len(world.plain.seen) == before


def test_through_a_gateway(up: Up, case: dict[str, Case], world: World) -> None:
    def ask(name: str) -> int:
        return up.get(f"http://{case[name].host_at(Level.SERVICE)}/").status_code

    assert ask("simple") == 200
    assert world.hosts.seen[-1].server_name == case["simple"].host_at(Level.SERVICE)
    assert ask("credential") == 200
    assert world.mutual.seen[-1].client == CLIENT
    assert ask("strange") == 503
    assert ask("elsewhere") == 503


def test_keys_stay_away_from_the_control_plane_and_the_stream(up: Up, world: World) -> None:
    """Neither the configuration that a proxy was given nor anything in the state has the key."""
    needle = b"".join(world.client.key.splitlines()[1:2])
    files = dict(contents(up.state))
    assert files
    assert not [file for file, content in files.items() if needle in content]
