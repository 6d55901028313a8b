"""Metrics of plain TCP, between two sidecars."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.real.traffic import NAMESPACE, caller, dump, service, workload
from tests.real.up import Up, eventually, free_port

pytestmark = pytest.mark.real


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(4096):
            self.request.sendall(data * 2)


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


def metrics(up: Up, proxy_id: str) -> dict[str, float]:
    """Of each metric of TCP the sum of its series, in Istio's names."""
    http = up.ready["control_plane"]["http"]
    text = (
        httpx.get(f"{http}/metrics/proxies/{proxy_id}", trust_env=False, timeout=30, verify=False)
        .raise_for_status()
        .text
    )
    found: dict[str, float] = {}
    for name, labels, value in re.findall(r"^istio_(tcp_\w+)\{(.*)\} (\S+)$", text, re.M):
        assert 'request_protocol="tcp"' in labels
        assert "response_code" not in labels
        found[name] = found.get(name, 0.0) + float(value)
    return found


def test_connections_and_bytes(tmp_path: Path, echo: int) -> None:
    port = free_port()
    upstream = {"host": f"echo.{NAMESPACE}.svc.cluster.local", "port": 9000, "bind": f"127.0.0.1:{port}"}
    manifests = dump(
        service("echo", ports=[{"name": "tcp", "port": 9000}]),
        workload("echo-1", echo, {"app": "echo"}, ports={"tcp": echo}),
        caller("web", tmp_path, upstreams=[upstream], network="Host"),
    )
    client, server = f"sidecar~{NAMESPACE}~web", f"sidecar~{NAMESPACE}~echo-1"
    with Up(tmp_path, {"all.yaml": manifests}) as up:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"12345")
            assert connection.recv(100) == b"1234512345"
            for proxy in (client, server):
                eventually(lambda proxy=proxy: metrics(up, proxy).get("tcp_connections_opened_total") == 1)
                assert "tcp_connections_closed_total" not in metrics(up, proxy)
        for proxy in (client, server):
            eventually(lambda proxy=proxy: metrics(up, proxy).get("tcp_connections_closed_total") == 1)
            found = metrics(up, proxy)
            assert (found["tcp_received_bytes_total"], found["tcp_sent_bytes_total"]) == (5, 10)
            logged = eventually(lambda proxy=proxy: up.access_log(proxy))
            assert len(logged) == 1, "one line a connection"
