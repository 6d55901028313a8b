"""Rego from bundles on real Envoys: signed and not, replaced under load, and while their server is away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.decide.rego.packing import Files, Signer, pack, users
from tests.real.backend import Backend
from tests.real.bundle_server import BundleServer
from tests.real.external_opa import ExternalOpa
from tests.real.fields import enforces
from tests.real.fields_authz import mesh_config
from tests.real.load import Load
from tests.real.traffic import dump, gateway, manifest, routes, server, service, to, workload
from tests.real.up import Up, eventually

pytestmark = pytest.mark.real

BUNDLE = "RegoPolicy.spec.bundle."
KEYS = BUNDLE + "verification.keys[]."
LOG = "RegoPolicy.spec.decisionLog."
OURS, STRANGER = Signer("ours"), Signer("ours")
SHARED = Signer("shared", b"a shared secret of the two")
POLLING = {"min": "500ms", "max": "1s"}
GATEWAY = "gateway~shop~edge"
LOGGED = """\
package envoy.authz

default allow := false

allow if input.attributes.request.http.headers["x-user"] in data.users
"""
MASKS = """\
package system.log

mask contains "/input/attributes/request/http/headers/x-card"

mask contains {"op": "upsert", "path": "/input/attributes/request/http/headers/x-user", "value": "somebody"}

drop if input.input.attributes.request.http.path == "/logged/health"
"""
WHOLE = """\
package envoy.authz

default allow := {"allowed": false, "http_status": 500}

allow := {"allowed": true, "response_headers_to_add": {"x-made-of": sprintf("%s %s", ["REVISION", data.revision])}}
"""

EXTERNAL = """\
package envoy.authz

default allow := false

allow := {"allowed": true, "headers": {"x-decided-by": "opa"}} if {
    input.attributes.request.http.headers["x-user"] == "alice"
    input.parsed_path[0] == "external"
}
"""


def whole(revision: str) -> bytes:
    """A bundle whose policy and data say the same revision."""
    policy = WHOLE.replace("REVISION", revision)
    return pack({"policy.rego": policy, "data.json": json.dumps({"revision": revision})})


def signed(*names: str, by: Signer = OURS, **claims: str) -> bytes:
    return pack(by.signed(users(*names), **claims))


def key(signer: Signer) -> dict[str, str]:
    return {"id": signer.id, "algorithm": signer.algorithm, "publicKey": signer.pem.decode()}


def authz(name: str, bundle: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """For the http route of its name."""
    target = {"kind": "VirtualService", "name": "shop", "sectionName": name}
    document = manifest("RegoPolicy", name, {"targetRefs": [target], "bundle": bundle, **spec})
    return {**document, "apiVersion": "isthmus.dev/v1alpha1"}


def secret(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"}, "stringData": data}


def external(port: int) -> list[dict[str, Any]]:
    """An OPA of somebody else's, and what it decides about."""
    entry = {
        "hosts": ["opa.internal"],
        "location": "MESH_EXTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": 9191, "name": "grpc", "protocol": "GRPC"}],
        "endpoints": [{"address": "127.0.0.1", "ports": {"grpc": port}}],
    }
    provider = {"name": "opa", "envoyExtAuthzGrpc": {"service": "opa.internal", "port": 9191}}
    custom = {
        "selector": {"matchLabels": {"istio": "edge"}},
        "action": "CUSTOM",
        "provider": {"name": "opa"},
        "rules": [{"to": [{"operation": {"paths": ["/external*"]}}]}],
    }
    return [
        json.loads(mesh_config(extensionProviders=[provider])),
        manifest("ServiceEntry", "opa", entry, "istio-system"),
        manifest("AuthorizationPolicy", "ask-opa", custom),
    ]


class World:
    """A mesh whose policies are bundles of two servers and a folder."""

    def __init__(
        self, folder: Path, bundles: BundleServer, closed: BundleServer, backend: Backend, opa: ExternalOpa
    ) -> None:
        self.bundles, self.closed, self.file, self.opa = bundles, closed, folder / "authz.tar.gz", opa
        self._begin()
        self.up = Up(folder, {"mesh.yaml": self._mesh(backend.port)})

    def _begin(self) -> None:
        self.bundles.bundles |= {
            "/signed": signed("alice"),
            "/shared": signed("alice", by=SHARED, scope="write"),
            "/scoped": signed("alice", scope="read"),
            "/named": signed("alice"),
            "/never": signed("alice", by=STRANGER),
            "/logged": pack({**users("alice", policy=LOGGED), "log.rego": MASKS}),
            "/load": whole("0"),
        }
        self.closed.bundles["/token"] = pack(users("alice"))
        self.file.write_bytes(pack(users("alice")))

    def _mesh(self, port: int) -> str:
        policies = [
            authz("signed", self.at("/signed", verification={"keys": [key(OURS)]})),
            authz("never", self.at("/never", verification={"keys": [key(OURS)]})),
            authz(
                "shared",
                self.at(
                    "/shared",
                    verification={
                        "keys": [{"id": "shared", "algorithm": "HS256", "credentialName": "shared", "scope": "write"}]
                    },
                ),
            ),
            authz("scoped", self.at("/scoped", verification={"keys": [key(OURS)], "scope": "read"})),
            authz(
                "named",
                self.at(
                    "/named",
                    verification={"keys": [{**key(STRANGER), "id": "old"}, {**key(OURS), "id": "new"}], "keyId": "new"},
                ),
            ),
            authz("file", {"file": "../authz.tar.gz"}),
            authz("token", {"url": self.closed.url("/token"), "credentialName": "token", "polling": POLLING}),
            authz("logged", self.at("/logged"), decisionLog={"url": self.closed.url(), "credentialName": "token"}),
            authz("load", self.at("/load")),
        ]
        names = [*(policy["metadata"]["name"] for policy in policies), "external"]
        matched = [
            {"name": name, "match": [{"uri": {"prefix": f"/{name}"}}], "route": [to("web", 80)]} for name in names
        ]
        return dump(
            gateway("edge", server(8080)),
            routes("shop", ["*"], *matched, gateways=["edge"]),
            service("web"),
            workload("web", port, {"app": "web"}),
            secret("token", token="open sesame\n"),
            secret("shared", key="a shared secret of the two"),
            *policies,
            *external(self.opa.port),
        )

    def at(self, path: str, **more: Any) -> dict[str, Any]:
        return {"url": self.bundles.url(path), "polling": POLLING, **more}

    def ask(self, path: str, user: str, **headers: str) -> httpx.Response:
        with self.up.client() as client:
            return self.up.send(client, "GET", f"http://shop:8080{path}", headers={"x-user": user, **headers})

    def status(self, name: str, user: str) -> int:
        return self.ask(f"/{name}", user).status_code

    def switches(self, name: str, to_user: str, from_user: str) -> None:
        """Until every process of the node goes by the new one."""
        eventually(lambda: self.status(name, to_user) == 200, 60)
        eventually(lambda: all(self.status(name, from_user) == 403 for _ in range(8)), 60)

    def says(self, *texts: str) -> None:
        eventually(lambda: all(text in self.up.output for text in texts), 60)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("bundles")
    with (
        BundleServer() as bundles,
        BundleServer("open sesame") as closed,
        Backend("web") as backend,
        ExternalOpa(EXTERNAL) as opa,
    ):
        made = World(folder, bundles, closed, backend, opa)
        with made.up:
            yield made


@pytest.fixture
def signed_by_us(world: World) -> Iterator[None]:
    """Alice's bundle before, and after whatever the test puts in its place."""
    eventually(lambda: world.status("signed", "alice") == 200, 60)
    yield
    world.bundles.bundles["/signed"] = signed("alice")
    world.switches("signed", "alice", "bob")


@enforces(
    BUNDLE + "url", KEYS + "id", KEYS + "algorithm", KEYS + "publicKey", BUNDLE + "polling.min", BUNDLE + "polling.max"
)
def test_a_signed_bundle_decides_and_the_next_one_after_it(world: World, signed_by_us: None) -> None:
    assert world.status("signed", "bob") == 403
    world.bundles.bundles["/signed"] = signed("bob")
    world.switches("signed", "bob", "alice")
    eventually(lambda: world.bundles.answers["/signed", 304] > 2, 60)
    assert world.bundles.answers["/signed", 200] <= 4, "what did not change is not sent again"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (users("mallory"), "is not signed"),
        (STRANGER.signed(users("mallory")), "does not hold"),
        ({**OURS.signed(users("alice")), **users("mallory")}, "is not what was signed"),
        ({**OURS.signed(users("alice")), "more.rego": "package envoy.authz\n\nallow := true\n"}, "not among the files"),
        (OURS.signed(users("mallory", policy="package envoy.authz\n\nallow if {")), "policy.rego"),
        (
            OURS.signed(
                users("mallory", policy='package envoy.authz\n\nallow if not net.cidr_contains("::/0", "::1")')
            ),
            "net.cidr_contains",
        ),
    ],
)
def test_what_is_refused_leaves_the_last_good_one_in_force(
    world: World, signed_by_us: None, files: Files, reason: str
) -> None:
    before = len(world.up.output)
    world.bundles.bundles["/signed"] = pack(files)
    eventually(lambda: "ISM7063" in world.up.output[before:] and reason in world.up.output[before:], 60)
    assert "stays in force" in world.up.output[before:]
    for _ in range(4):
        assert (world.status("signed", "mallory"), world.status("signed", "alice")) == (403, 200)


def test_without_any_good_one_everything_is_refused(world: World) -> None:
    world.says("RegoPolicy/shop/never", "there is none yet, so requests are refused")
    assert world.status("never", "alice") == 403
    line = eventually(lambda: [one for one in world.up.access_log(GATEWAY) if one["path"] == "/never"], 60)[0]
    assert line["reason"] == "rego-error"


@enforces(KEYS + "credentialName", KEYS + "scope", BUNDLE + "verification.scope", BUNDLE + "verification.keyId")
def test_shared_keys_scopes_and_the_key_that_must_have_signed(world: World) -> None:
    for name in ("shared", "scoped", "named"):
        eventually(lambda name=name: world.status(name, "alice") == 200, 60)  # type: ignore[misc]
    world.bundles.bundles["/shared"] = signed("mallory", by=SHARED, scope="read")
    world.bundles.bundles["/scoped"] = signed("mallory")
    world.bundles.bundles["/named"] = signed("mallory", by=STRANGER)
    for name in ("shared", "scoped", "named"):
        world.says(f"error ISM7063 RegoPolicy/shop/{name}")
        assert (world.status(name, "mallory"), world.status(name, "alice")) == (403, 200)
    world.bundles.bundles["/shared"] = pack(Signer("shared", b"another secret").signed(users("mallory"), scope="write"))
    world.says("its signature does not hold")
    assert (world.status("shared", "mallory"), world.status("shared", "alice")) == (403, 200)


@enforces(BUNDLE + "file")
def test_a_file_is_watched(world: World) -> None:
    eventually(lambda: world.status("file", "alice") == 200, 60)
    assert world.status("file", "bob") == 403
    new = world.file.with_name("new")
    new.write_bytes(pack(users("bob")))
    new.replace(world.file)
    world.switches("file", "bob", "alice")


@enforces(BUNDLE + "credentialName")
def test_a_server_that_wants_a_token(world: World) -> None:
    eventually(lambda: world.status("token", "alice") == 200, 60)
    assert world.closed.answers["/token", 401] == 0
    assert b"sesame" not in b"".join(file.read_bytes() for file in (world.up.state / "log").iterdir() if file.is_file())


@enforces(LOG + "url", LOG + "credentialName")
def test_decisions_are_told_as_opa_tells_them(world: World) -> None:
    eventually(lambda: world.status("logged", "alice") == 200, 60)
    secrets = {"x-card": "4111", "authorization": "Bearer abcdef", "cookie": "session=1"}
    world.ask("/logged/health", "alice")
    answer = world.ask("/logged/mark", "mallory", **secrets)
    assert answer.status_code == 403

    def marked() -> list[dict[str, Any]]:
        return [one for one in world.closed.events if one["input"]["parsed_path"] == ["logged", "mark"]]

    [event] = eventually(marked, 60)
    assert event["labels"]["policy"] == "shop/logged"
    assert event["bundles"] == {"shop/logged": {"revision": "alice"}}
    assert (event["path"], event["result"], "timestamp" in event) == ("envoy/authz/allow", False, True)
    headers = event["input"]["attributes"]["request"]["http"]["headers"]
    assert headers["x-user"] == "somebody"
    assert not headers.keys() & secrets.keys()
    assert "/input/attributes/request/http/headers/x-card" in event["erased"]
    assert event["masked"] == ["/input/attributes/request/http/headers/x-user"]
    assert not [one for one in world.closed.events if one["input"]["parsed_path"][-1] == "health"], "dropped"
    line = eventually(lambda: [one for one in world.up.access_log(GATEWAY) if one["path"] == "/logged/mark"], 60)[0]
    assert (line["decision_id"], line["reason"]) == (event["decision_id"], "rego-denied")
    files = (world.up.state / "log").glob("rego-*.decisions.log")
    assert event in [json.loads(text) for file in files for text in file.read_text().splitlines()]


def test_an_external_opa_decides_as_a_provider(world: World) -> None:
    """It is asked in Istio's place, by a plain provider, and what it adds goes to the program."""
    answer = eventually(lambda: (found := world.ask("/external/a", "alice")).status_code == 200 and found, 60)
    assert ["x-decided-by", "opa"] in answer.json()["headers"]
    assert world.ask("/external/a", "mallory").status_code == 403
    [told] = [one.input for one in world.opa.decisions if one.result is False]
    assert told is not None
    assert told["parsed_path"] == ["external", "a"]
    assert told["attributes"]["request"]["http"]["method"] == "GET"
    assert world.ask("/file", "nobody").status_code == 403, "others are not asked about it"
    assert not [one for one in world.opa.decisions if one.input and one.input["parsed_path"] == ["file"]]


def test_policy_and_data_change_at_once_and_no_request_fails(world: World) -> None:
    """A request meets the one bundle or the other, under load, with new connections among the old."""
    eventually(lambda: world.status("load", "anybody") == 200, 60)
    made = {world.ask("/load", "anybody").headers["x-made-of"]}
    with Load(world.up.gateway(8080), "shop", path="/load", rate=200) as load:
        for revision in range(1, 6):
            world.bundles.bundles["/load"] = whole(str(revision))
            deadline = time.monotonic() + 60
            while f"{revision} {revision}" not in made and time.monotonic() < deadline:
                made.add(world.ask("/load", "anybody").headers["x-made-of"])
    assert made == {f"{revision} {revision}" for revision in range(6)}
    assert load.failures == []


def test_while_its_server_is_away_a_start_goes_by_the_last_good_one(world: World) -> None:
    eventually(lambda: world.status("signed", "alice") == 200, 60)
    assert world.up.stop() == 0
    world.bundles.down = True
    try:
        world.up.start()
        assert (world.status("signed", "alice"), world.status("signed", "mallory")) == (200, 403)
        world.says("warning ISM7064 RegoPolicy/shop/signed", "revision alice stays in force")
        assert world.status("never", "alice") == 403
        world.says("error ISM7062 RegoPolicy/shop/never")
    finally:
        world.bundles.down = False
    world.bundles.bundles["/signed"] = signed("bob")
    world.switches("signed", "bob", "alice")
    world.bundles.bundles["/signed"] = signed("alice")
