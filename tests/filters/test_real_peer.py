"""Who calls: rules over the peer's identity, on mutual TLS and plaintext, for HTTP and TCP."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import contextmanager

import httpx
import pytest

from isthmus.envoy_api import any_of
from isthmus.envoy_api.packages import (
    accesslog_v3,
    core_v3,
    file_access_log_v3,
    listener_v3,
    protobuf,
    tcp_proxy_v3,
    tls_v3,
)
from isthmus.filters.peer import AMBIGUOUS_PEER
from isthmus.filters.rbac import (
    ALLOW,
    Allow,
    Audit,
    Deny,
    NamedRule,
    build_network,
    tcp_verdict_log_fields,
)
from isthmus.filters.router import ROUTER, Router
from isthmus.model.match import Exact, Prefix, Present, Regex, Suffix
from isthmus.model.predicate import Not, Path, Peer, all_of
from isthmus.xds.listener import peer_filters

from .certificates import make_authority
from .running import Web, address, cluster, running

pytestmark = pytest.mark.real

_A, _B = "spiffe://td/ns/shop/sa/a", "spiffe://td/ns/bank/sa/b"
_DEEP = "spiffe://td/ns/shop/sa/a/b"
_RULES = {
    "exact": Peer(Exact(_A)),
    "not-exact": Not(Peer(Exact(_A))),
    "prefix": Peer(Prefix("spiffe://td/ns/shop/")),
    "suffix": Peer(Suffix("/sa/a")),
    "namespace": Peer(Regex("spiffe://td/ns/shop/sa/[^,/]+")),
    "not-namespace": Not(Peer(Regex("spiffe://td/ns/shop/sa/[^,/]+"))),
    "anyone": Peer(Present()),
    "nobody": Not(Peer(Present())),
}
# rule: who is let in, of a, b, deep, unnamed (a certificate without a URI) and plain (no TLS)
_LET_IN = {
    "exact": {"a"},
    "not-exact": {"b", "deep", "unnamed", "plain"},
    "prefix": {"a", "deep"},
    "suffix": {"a"},
    "namespace": {"a"},
    "not-namespace": {"b", "deep", "unnamed", "plain"},
    "anyone": {"a", "b", "deep"},
    "nobody": {"unnamed", "plain"},
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("ca"))


def _server_tls(authority):
    chain, key = authority.issue("server", "spiffe://td/ns/shop/sa/server")
    context = tls_v3.CommonTlsContext(
        tls_certificates=[
            tls_v3.TlsCertificate(
                certificate_chain=core_v3.DataSource(filename=str(chain)),
                private_key=core_v3.DataSource(filename=str(key)),
            )
        ],
        validation_context=tls_v3.CertificateValidationContext(
            trusted_ca=core_v3.DataSource(inline_string=authority.pem)
        ),
    )
    config = tls_v3.DownstreamTlsContext(
        common_tls_context=context, require_client_certificate=protobuf.BoolValue(value=True)
    )
    return core_v3.TransportSocket(name="envoy.transport_sockets.tls", typed_config=any_of(config))


@contextmanager
def _echo():
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(self.rfile.readline())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def _tcp(name, filters, log_path, transport_socket=None):
    layout = protobuf.Struct()
    layout.update(
        {
            "case": "%DOWNSTREAM_DIRECT_REMOTE_PORT%",
            "details": "%CONNECTION_TERMINATION_DETAILS%",
            **tcp_verdict_log_fields(),
        },
    )
    log = file_access_log_v3.FileAccessLog(
        path=str(log_path), log_format=core_v3.SubstitutionFormatString(json_format=layout)
    )
    proxy = tcp_proxy_v3.TcpProxy(
        stat_prefix=name,
        cluster="echo",
        access_log=[accesslog_v3.AccessLog(name="envoy.access_loggers.file", typed_config=any_of(log))],
    )
    end = listener_v3.Filter(name="envoy.filters.network.tcp_proxy", typed_config=any_of(proxy))
    chain = listener_v3.FilterChain(filters=[*filters, end])
    if transport_socket is not None:
        chain.transport_socket.CopyFrom(transport_socket)
    return listener_v3.Listener(
        name=name,
        address=address(),
        filter_chains=[chain],
        enable_reuse_port=protobuf.BoolValue(value=False),
    )


@pytest.fixture(scope="module")
def envoy(tmp_path_factory, authority):
    folder = tmp_path_factory.mktemp("peer")
    rules = tuple(NamedRule(name, all_of(Path(Exact(f"/{name}")), rule)) for name, rule in _RULES.items())
    chain = [*ALLOW.build(Allow(rules)), *ROUTER.build(Router())]
    tls = _server_tls(authority)
    webs = [Web("tls", chain, network_filters=peer_filters(), transport_socket=tls), Web("plain", chain)]
    a, b = NamedRule("let-a", Peer(Exact(_A))), NamedRule("keep-b", Peer(Exact(_B)))
    allow, deny = build_network(Allow((a,)), "tcp"), build_network(Deny((b,)), "tcp")
    audit = build_network(Audit((a,)), "tcp")
    with _echo() as port:
        tcp = [
            _tcp("tcp-allow", [*peer_filters(), audit, allow], folder / "access.log", tls),
            _tcp("tcp-deny", [*peer_filters(), deny], folder / "access.log", tls),
            _tcp("tcp-dry", [*peer_filters(), build_network(Deny((), (b,)), "tcp")], folder / "access.log", tls),
            _tcp("tcp-nobody", [build_network(Allow(()), "tcp")], folder / "access.log"),
            _tcp("tcp-plain", [allow], folder / "access.log"),
        ]
        with running(folder, webs, [cluster("echo", port)], tcp) as started:
            yield started


@pytest.fixture(scope="module")
def callers(authority):
    contexts = {
        "a": authority.client("a", _A),
        "b": authority.client("b", _B),
        "deep": authority.client("deep", _DEEP),
        "unnamed": authority.client("unnamed"),
        "two": authority.client("two", _A, _B),
    }
    clients = {name: httpx.Client(verify=context) for name, context in contexts.items()}
    yield contexts, clients
    for client in clients.values():
        client.close()


@pytest.mark.parametrize("rule", _RULES)
def test_rules_over_the_peer(envoy, callers, rule):
    _, clients = callers
    let_in = {
        name
        for name in ("a", "b", "deep", "unnamed")
        if clients[name].get(f"https://127.0.0.1:{envoy.ports['tls']}/{rule}").status_code == 200
    }
    if envoy.get("plain", f"/{rule}").status_code == 200:
        let_in.add("plain")
    assert let_in == _LET_IN[rule]


@pytest.mark.parametrize("rule", _RULES)
def test_a_peer_of_two_names_gets_no_answer(envoy, callers, rule):
    _, clients = callers
    with pytest.raises(httpx.TransportError):
        clients["two"].get(f"https://127.0.0.1:{envoy.ports['tls']}/{rule}")
    assert envoy.stat("ambiguous_peer.rbac.denied") > 0


def _said(port, context=None):
    with socket.create_connection(("127.0.0.1", port), timeout=3) as plain:
        client_port = plain.getsockname()[1]
        connection = context.wrap_socket(plain) if context is not None else plain
        try:
            connection.sendall(b"hello\n")
            return connection.recv(100), client_port
        except ConnectionError:
            return b"", client_port
        finally:
            connection.close()


@pytest.mark.parametrize(
    ("listener", "caller", "let_in", "told"),
    [
        ("tcp-allow", "a", True, {"audit_policy": "let-a", "allow_policy": "let-a", "allow_result": "allowed"}),
        ("tcp-allow", "b", False, {"audit_policy": None, "allow_policy": None, "allow_result": "denied"}),
        ("tcp-allow", "unnamed", False, {"details": "rbac_access_denied_matched_policy[none]"}),
        ("tcp-allow", "two", False, {"details": f"rbac_access_denied_matched_policy[{AMBIGUOUS_PEER}]"}),
        ("tcp-deny", "a", True, {"deny_policy": None, "details": None}),
        ("tcp-deny", "unnamed", True, {"deny_policy": None}),
        ("tcp-deny", "b", False, {"deny_policy": "keep-b", "details": "rbac_access_denied_matched_policy[keep-b]"}),
        ("tcp-deny", "two", False, {"details": f"rbac_access_denied_matched_policy[{AMBIGUOUS_PEER}]"}),
        ("tcp-dry", "b", True, {"dry_run_deny_policy": "keep-b", "dry_run_deny_result": "denied"}),
        ("tcp-dry", "a", True, {"dry_run_deny_policy": None, "dry_run_deny_result": "allowed"}),
        ("tcp-plain", "plain", False, {"allow_result": "denied"}),
        ("tcp-nobody", "plain", False, {"details": "rbac_access_denied_matched_policy[none]"}),
    ],
)
def test_tcp_is_let_in_and_refused_by_the_peer(envoy, callers, listener, caller, let_in, told):
    contexts, _ = callers
    heard, client_port = _said(envoy.ports[listener], contexts.get(caller))
    assert heard == (b"hello\n" if let_in else b"")
    line = envoy.logged(str(client_port))[str(client_port)]
    assert {field: line[field] for field in told} == told
