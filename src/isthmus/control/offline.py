"""A World for a Mesh that nobody runs: fixed, made-up addresses, so that output is the same every time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from isthmus.control.desired import decision_places, fixed_places, listening_places
from isthmus.model.mesh import Mesh
from isthmus.model.oidc import logins_of
from isthmus.model.proxy import Role
from isthmus.model.world import Address, PortKey, World
from isthmus.proxy.place import Folders
from isthmus.xds.secret import login_cookie_key_name, login_secret_name

_FIRST_PORT = 20000
_NO_CREDENTIAL = "not-a-credential"
_OFFLINE = "offline"


def offline_world(mesh: Mesh) -> World:
    """Gateways listen on their declared ports, everything else on counted ones; no issuer's keys are known."""
    addresses: dict[PortKey, Address] = {}
    for number, (key, interface) in enumerate(sorted(listening_places(mesh).items())):
        port = key.number if key.purpose == "gateway" else _FIRST_PORT + number
        addresses[key] = Address(interface, port)
    addresses.update(fixed_places(mesh))
    runtime = Path("/run/isthmus")
    addresses.update(decision_places(mesh, (proxy.id for proxy in mesh.proxies), Folders(runtime, runtime)))
    credentials = {proxy.id: _NO_CREDENTIAL for proxy in mesh.proxies if proxy.role is Role.SIDECAR}
    return World(addresses=addresses, outbound_credentials=credentials, login_secrets=dict(_login_secrets(mesh)))


def _login_secrets(mesh: Mesh) -> Iterator[tuple[str, str]]:
    """Those that would be there; their content is no part of any output."""
    for login in logins_of(mesh.policies.clients):
        secret = mesh.secrets.get(login.secret)
        if secret is not None and login.secret_key in secret.keys:
            yield login_secret_name(login.secret, login.secret_key), _OFFLINE
            yield login_cookie_key_name(login.key), _OFFLINE
