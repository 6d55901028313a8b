"""What each policy costs a request: gateways that differ in it alone, before one program, in interleaved rounds.

Every gateway is an Envoy of one worker; what it asks (the decision processes) counts with it. Ratios are to the same
gateway without the policy: with the token verified where the policy is about claims. Tokens are cached, as always.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.real.up import Up, children_of, development_jwks, free_port, isthmus

from bench.chain import config
from bench.chain.process import LOAD_CPU, PROXY_CPU, cpu_nanoseconds, pinned, until_open, wrk
from isthmus.proxy.place import Folders

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "10"))
SECONDS = 2.0
CONNECTIONS = 16
ISSUER = "https://issuer.example.com"
NEEDED = ("wrk", "nginx", "taskset")
PATH = "/users/alice/orders"
_OTHER = "/users/bob/orders"


@dataclass(frozen=True)
class Variant:
    """One gateway. ``base``: the one that it is compared with; ``policy``: what it has beside it, as manifests.

    ``services``: decision processes that it asks. ``refuses``: what a request that the policy refuses is answered with.
    """

    name: str
    words: str
    base: str
    policy: str = ""
    services: tuple[str, ...] = ()
    token: bool = False
    key: bool = False
    refuses: int | None = None

    @property
    def proxy(self) -> str:
        return f"gateway~edge~{self.name}"


def _labels(name: str) -> str:
    return f"selector: {{matchLabels: {{app: {name}}}}}"


def _ours(kind: str, name: str, spec: str) -> str:
    return f"""\
---
apiVersion: isthmus.dev/v1alpha1
kind: {kind}
metadata: {{name: {name}, namespace: edge}}
spec:
  {_labels(name)}
{spec}"""


_REGO = """\
  rego: |
    package envoy.authz
    import rego.v1
    default allow := false
    claims := input.attributes.metadataContext.filterMetadata["envoy.filters.http.jwt_authn"].payload
    allow if {
      input.parsed_path[0] == "users"
      input.parsed_path[1] == claims.sub
      input.parsed_path[2] == "orders"
    }
"""
_LIMIT = """\
  limits:
  - name: all
    by: [{by}]
    requests: 10000000
    per: minute
    scope: {scope}
"""
_AUTHORIZATION = f"""\
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: authorization, namespace: edge}}
spec:
  {_labels("authorization")}
  rules: [{{to: [{{operation: {{methods: [GET], paths: ["/users/alice/orders"]}}}}], when: [{{key: "request.auth.claims[sub]", values: [alice]}}]}}]
"""  # noqa: E501
_ACCESS = """\
  rules:
  - {methods: [GET], paths: ["/users/{user}/orders"], when: "claims.sub == params.user"}
"""

VARIANTS = (
    Variant("plain", "no policy", "plain"),
    Variant("token", "JWT", "plain", token=True),
    Variant(
        "key",
        "API key",
        "plain",
        _ours("ClientAuthentication", "key", "  methods: [{apiKey: {headers: [x-api-key]}}]\n"),
        ("credentials",),
        key=True,
        refuses=401,
    ),
    Variant("authorization", "AuthorizationPolicy on a claim", "token", _AUTHORIZATION, token=True, refuses=403),
    Variant("access", "AccessPolicy", "token", _ours("AccessPolicy", "access", _ACCESS), token=True, refuses=403),
    Variant("rego", "Rego", "token", _ours("RegoPolicy", "rego", _REGO), ("rego",), token=True, refuses=403),
    Variant(
        "local",
        "local limit by user",
        "token",
        _ours("RateLimitPolicy", "local", _LIMIT.replace("{by}", "{claim: sub}").replace("{scope}", "LOCAL")),
        token=True,
    ),
    Variant(
        "global",
        "global limit by user",
        "token",
        _ours("RateLimitPolicy", "global", _LIMIT.replace("{by}", "{claim: sub}").replace("{scope}", "GLOBAL")),
        ("limits",),
        token=True,
    ),
)


def _gateway(variant: Variant) -> str:
    token = f"""\
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: {variant.name}, namespace: edge}}
spec:
  {_labels(variant.name)}
  jwtRules: [{{issuer: "{ISSUER}"}}]
"""
    return f"""\
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {variant.name}, namespace: edge}}
spec:
  selector: {{app: {variant.name}}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {variant.name}, namespace: edge}}
spec:
  hosts: ["*"]
  gateways: [{variant.name}]
  http: [{{retries: {{attempts: 0}}, route: [{{destination: {{host: app.example.com}}}}]}}]
{token if variant.token else ""}{variant.policy}"""


def _program(port: int) -> str:
    return f"""\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: app, namespace: edge}}
spec:
  hosts: [app.example.com]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]
  resolution: STATIC
  location: MESH_EXTERNAL
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: isthmus.dev/v1alpha1
kind: Consumer
metadata: {{name: shop, namespace: edge}}
spec: {{groups: [partners]}}
"""


def measure() -> Iterator[tuple[str, str, list[float]]]:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        print(f"  not measured: {', '.join(missing)} not installed", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield from _measured(Path(folder))


def _measured(folder: Path) -> Iterator[tuple[str, str, list[float]]]:
    port = free_port()
    (folder / "app.conf").write_text(config.nginx_app(port, folder))
    app = subprocess.Popen(pinned(LOAD_CPU, "nginx", "-c", str(folder / "app.conf")), cwd=folder)
    try:
        until_open(port, app)
        jwks = development_jwks(folder / "state", folder / "jwks.json")
        text = _program(port) + "".join(map(_gateway, VARIANTS))
        with Up(folder, {"all.yaml": text}, "--jwks", f"{ISSUER}={jwks}") as up:
            for pid in children_of(up.process.pid):
                argv = ("taskset", "-a", "-p", "-c", str(PROXY_CPU), str(pid))
                subprocess.run(argv, capture_output=True, check=False)
            yield from _compared(up)
    finally:
        app.terminate()
        app.wait()


def _compared(up: Up) -> Iterator[tuple[str, str, list[float]]]:
    headers = _headers(up)
    pids = {one.name: _pids(up, one) for one in VARIANTS}
    rates: dict[str, list[float]] = {one.name: [] for one in VARIANTS}
    costs: dict[str, list[float]] = {one.name: [] for one in VARIANTS}
    alone: dict[str, list[float]] = {one.name: [] for one in VARIANTS}
    for one in VARIANTS:
        _check(up, one, headers[one.name])
    for number in range(ROUNDS):
        # There and back again: what drifts with time meets all alike.
        for one in VARIANTS if number % 2 == 0 else VARIANTS[::-1]:
            told = tuple(f"{name}: {value}" for name, value in headers[one.name].items())
            before = cpu_nanoseconds(pids[one.name])
            load = wrk(_url(up, one), told, CONNECTIONS, SECONDS)
            if load.failed or not load.requests:
                raise RuntimeError(f"{one.name}: {load.failed} of {load.requests} requests failed")
            rates[one.name].append(load.requests / load.seconds)
            costs[one.name].append((cpu_nanoseconds(pids[one.name]) - before) / load.requests / 1e3)
            alone[one.name].append(wrk(_url(up, one), told, 1, SECONDS / 2).p50_ms)
        print(f"policies: round {number + 1} of {ROUNDS}", file=sys.stderr)
    for one in VARIANTS:
        yield f"{one.words}, {CONNECTIONS} connections", "requests/s", rates[one.name]
        yield f"{one.words}, CPU", "us/request", costs[one.name]
        yield f"{one.words}, p50 of one connection", "ms", alone[one.name]
    for one in VARIANTS:
        if one.base != one.name:
            against = next(other.words for other in VARIANTS if other.name == one.base)
            for what, found in (("CPU", costs), ("p50 of one connection", alone)):
                ratios = [mine / its for mine, its in zip(found[one.name], found[one.base], strict=True)]
                yield f"{one.words} against {against}, {what}", "ratio", ratios
            added = [(mine - its) * 1e3 for mine, its in zip(alone[one.name], alone[one.base], strict=True)]
            yield f"{one.words} against {against}, added p50", "us", [statistics.median(added)]


def _url(up: Up, variant: Variant, path: str = PATH) -> str:
    gateway = next(one for one in up.ready["gateways"] if one["name"] == variant.name)
    return f"http://{gateway['listeners'][0]['address']}{path}"


def _headers(up: Up) -> dict[str, dict[str, str]]:
    """Of each gateway's requests: a token of alice's, a key of the consumer's."""
    told = isthmus("consumer", "key", "create", "edge/shop", "--state", str(up.state), "-o", "json").stdout
    key = json.loads(told)["key"]
    bearer = {"Authorization": f"Bearer {up.token(ISSUER)}"}
    return {one.name: (bearer if one.token else {}) | ({"x-api-key": key} if one.key else {}) for one in VARIANTS}


def _check(up: Up, variant: Variant, headers: dict[str, str]) -> None:
    """Nobody is measured who does not do the work. Raises RuntimeError."""
    wanted = {"as measured": (PATH, headers, 200)}
    if variant.token:
        wanted["a bad token"] = (PATH, {"Authorization": f"{headers['Authorization'][:-6]}AAAAAA"}, 401)
    if variant.key:
        wanted["no key"] = (PATH, {}, 401)
    elif variant.refuses is not None:
        wanted["another user's"] = (_OTHER, headers, variant.refuses)
    for what, (path, sent, status) in wanted.items():
        found = httpx.get(_url(up, variant, path), headers=sent, trust_env=False).status_code
        if found != status:
            raise RuntimeError(f"{variant.name}: {what} is answered with {found}, not {status}")


def _pids(up: Up, variant: Variant) -> tuple[int, ...]:
    """The gateway's Envoy, and what it asks."""
    folders = Folders(up.state, (up.state / "run").readlink())
    bootstrap = str(folders.bootstrap(variant.proxy))
    found = []
    for pid in children_of(up.process.pid):
        arguments = set(Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0"))
        if bootstrap in arguments or any(_MODULES[name] in arguments for name in variant.services):
            found.append(pid)
    if len(found) < 1 + len(variant.services):
        raise RuntimeError(f"{variant.name}: not all of it runs")
    return tuple(found)


_MODULES = {
    "credentials": "isthmus.decide.client.server",
    "rego": "isthmus.decide.rego.server",
    "limits": "isthmus.limit.server",
}
"""What a decision process is started as."""
