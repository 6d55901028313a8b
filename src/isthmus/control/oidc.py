"""Logins, as the control plane sees them: whose discovery is wanted, and the secrets that proxies are to have. Pure but
for the key, which is made once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from isthmus.compile import Compiled
from isthmus.control.last_good import PrivateFiles
from isthmus.control.secret_value import secret_value
from isthmus.model.mesh import Mesh
from isthmus.model.oidc import OidcLogin, logins_of
from isthmus.model.proxy import Proxy, Role
from isthmus.model.world import World
from isthmus.proxy.plan import PlannedCredential
from isthmus.xds.oidc import logins_at
from isthmus.xds.secret import (
    LOGIN_COOKIE_KEY,
    LOGIN_SECRET,
    file_roots_name,
    login_cookie_key_name,
    login_secret_name,
)

_FILE = "oidc/cookie.key"
_BYTES = 32
_DERIVED = "derived"
_FILES = "files"
MOST_BYTES = 4096
"""Of a client's secret; Envoy puts it into a header."""


def wanted_issuers(mesh: Mesh) -> frozenset[str]:
    """Those whose endpoints nobody has written down."""
    return frozenset(login.issuer for login in logins_of(mesh.policies.clients) if login.endpoints is None)


def client_secret(compiled: Compiled, secret: str, key: str) -> bytes | None:
    """Without the line end that files of secrets so often have; None: it is not there, or no secret of a client."""
    found = secret_value(compiled, secret, (key,))
    found = found.rstrip(b"\r\n") if found is not None else b""
    return found if found and len(found) <= MOST_BYTES and found.isascii() else None


class LoginSecrets:
    """The secrets of logins. The keys of all logins are derived from one that is in the state alone (0600).

    So all proxies of a login open each other's cookies, also after a restart, and no two logins do.
    """

    def __init__(self, state: PrivateFiles) -> None:
        self._state = state
        self._known: bytes | None = None

    def versions(self, compiled: Compiled) -> Mapping[str, str]:
        """Of the secrets that there are, by name. A digest that only the key's owner can make tells nothing."""
        logins = logins_of(compiled.mesh.policies.clients)
        if not logins:
            return {}
        found: dict[str, str] = {}
        for login in logins:
            secret = client_secret(compiled, login.secret, login.secret_key)
            if secret is not None:
                version = hmac.new(self._key(), b"version " + secret, hashlib.sha256).hexdigest()[:16]
                found[login_secret_name(login.secret, login.secret_key)] = version
            found[login_cookie_key_name(login.key)] = _DERIVED
        return found

    def value(self, name: str, compiled: Compiled | None) -> bytes | None:
        """What the secret of that name holds, for an agent's channel alone; None: it is none of these, or not there."""
        if name.startswith(LOGIN_COOKIE_KEY):
            return self._cookie_key(name.removeprefix(LOGIN_COOKIE_KEY))
        if name.startswith(LOGIN_SECRET) and compiled is not None:
            secret, _, key = name.removeprefix(LOGIN_SECRET).partition("~")
            return client_secret(compiled, secret, key)
        return None

    def _cookie_key(self, login: str) -> bytes:
        derive = HKDF(hashes.SHA256(), _BYTES, salt=None, info=f"isthmus login {login}".encode())
        return derive.derive(self._key()).hex().encode()

    def _key(self) -> bytes:
        if self._known is None:
            kept = self._state.read(_FILE)
            if kept is None or len(kept) != _BYTES:
                kept = secrets.token_bytes(_BYTES)
                self._state.write_private(_FILE, kept)
            self._known = kept
        return self._known


def login_credentials(mesh: Mesh, proxy: Proxy, world: World) -> Iterator[PlannedCredential]:
    """What the logins at a gateway need, as far as it is there."""
    if proxy.role is not Role.GATEWAY:
        return
    logins = logins_at(mesh, world, proxy)
    for login in logins:
        for name in (login_secret_name(login.secret, login.secret_key), login_cookie_key_name(login.key)):
            version = world.login_secrets.get(name)
            if version is not None:
                yield PlannedCredential(name, version)
    if any(_over_tls(world, login) for login in logins):
        yield PlannedCredential(file_roots_name(None), _FILES)


def _over_tls(world: World, login: OidcLogin) -> bool:
    endpoints = world.endpoints_of(login)
    return endpoints is not None and endpoints.token.startswith("https:")
