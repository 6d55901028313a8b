from __future__ import annotations

from dataclasses import replace

from isthmus.control.oidc import LoginSecrets, login_credentials, wanted_issuers
from isthmus.model.oidc import Provider, ProviderEndpoints, logins_of
from isthmus.model.world import World
from isthmus.xds.secret import file_roots_name, login_cookie_key_name, login_secret_name
from tests.control.oidc_making import CLIENT, GATEWAY, ISSUER, login, secret
from tests.xds.making import compiled

SECRET = login_secret_name("shop/shop-oidc", "client-secret")
ENDPOINTS = ", endpoints: {authorization: 'https://a/a', token: 'https://a/t', jwks: 'https://a/j'}"


class Files:
    """A state directory in memory."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        return self.held.get(name)

    def write_private(self, name: str, data: bytes) -> None:
        self.held[name] = data


def test_an_issuer_is_asked_unless_its_endpoints_are_written_down() -> None:
    assert wanted_issuers(compiled(GATEWAY, secret(), login()).mesh) == {ISSUER}
    assert wanted_issuers(compiled(GATEWAY, secret(), login(ENDPOINTS)).mesh) == frozenset()


def test_secrets_and_their_versions() -> None:
    files, found = Files(), compiled(GATEWAY, secret(), login())
    secrets = LoginSecrets(files)
    (one,) = logins_of(found.mesh.policies.clients)
    key = login_cookie_key_name(one.key)
    versions = secrets.versions(found)
    assert versions.keys() == {SECRET, key}
    assert CLIENT not in repr(versions)
    assert secrets.value(SECRET, found) == CLIENT.encode()
    changed = LoginSecrets(files).versions(compiled(GATEWAY, secret("another"), login()))
    assert changed[SECRET] != versions[SECRET]
    # The same key over restarts, and in every proxy; another for every login, and on every other state.
    assert LoginSecrets(files).value(key, found) == secrets.value(key, found)
    assert secrets.value(login_cookie_key_name("other"), found) != secrets.value(key, found)
    assert LoginSecrets(Files()).value(key, found) != secrets.value(key, found)
    assert LoginSecrets(Files()).versions(found)[SECRET] != versions[SECRET], "no digest of a secret that others know"
    assert secrets.value("credential:shop/x", found) is None
    assert secrets.value(SECRET, None) is None


def test_a_secret_that_cannot_be_one_is_none() -> None:
    for value in ("", "\\n", "\\u00fc", "x" * 5000):
        found = compiled(GATEWAY, secret(value), login())
        assert SECRET not in LoginSecrets(Files()).versions(found)
    found = compiled(GATEWAY, secret("s\\n"), login())
    assert LoginSecrets(Files()).value(SECRET, found) == b"s"


def test_without_logins_no_key_is_made() -> None:
    files = Files()
    assert LoginSecrets(files).versions(compiled(GATEWAY, secret())) == {}
    assert not files.held


def test_a_gateway_is_given_what_its_logins_need() -> None:
    found = compiled(GATEWAY, secret(), login())
    mesh = found.mesh
    (proxy,) = mesh.proxies
    world = World(login_secrets=LoginSecrets(Files()).versions(found))
    assert {one.name for one in login_credentials(mesh, proxy, world)} == set(world.login_secrets)
    known = replace(world, providers={ISSUER: Provider(ProviderEndpoints("https://a/a", "https://a/t"))})
    names = {one.name for one in login_credentials(mesh, proxy, known)}
    assert names == {*world.login_secrets, file_roots_name(None)}
    assert not list(login_credentials(mesh, proxy, World()))
    none = compiled(GATEWAY, secret()).mesh
    assert not list(login_credentials(none, proxy, world))
