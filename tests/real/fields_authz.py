"""External authorizers: an HTTP server and a gRPC one, which do what the request's path says and remember all."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from isthmus.envoy_api.packages import core_v3, ext_authz_service_v3, status, type_v3

SLOW_SECONDS = 0.6
ON_ALLOW = {"x-user": "alice", "x-seen": "yes", "x-route": "blue"}
ON_DENY = {"x-why": "no", "x-other": "secret"}


class HttpAuthz:
    """Refuses (401) a path with ``deny``, takes its time for one with ``slow``, else consents."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        authz = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def check(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                authz.asked.append({"path": self.path, "method": self.command, "headers": headers, "body": body})
                if "slow" in self.path:
                    time.sleep(SLOW_SECONDS)
                refused = "deny" in self.path
                content = b"refused by the authorizer" if refused else b""
                self.send_response(401 if refused else 200)
                for name, value in (ON_DENY if refused else ON_ALLOW).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = check

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> HttpAuthz:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


SPOOFED = {"consumer": "boss", "consumer_namespace": "shop", "groups": ["bosses"], "claims": {"sub": "boss"}}
SPOOFED_REASON = {"reason": "jwt-expired", "answered": True}
"""What a service of the mesh's own would say when it refuses."""


class GrpcAuthz:
    """The same by ``envoy.service.auth.v3.Authorization``; a path with ``gold`` or ``silver`` says so in metadata.

    With it comes :data:`SPOOFED`: who the client is, which is not a provider's to say; with a denial
    :data:`SPOOFED_REASON`.
    """

    def __init__(self) -> None:
        self.asked: list[Any] = []
        handler = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=ext_authz_service_v3.CheckRequest.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        self._server = grpc.server(ThreadPoolExecutor(4))
        methods = grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": handler})
        self._server.add_generic_rpc_handlers((methods,))
        self.port = int(self._server.add_insecure_port("127.0.0.1:0"))

    def _check(self, request: Any, _context: Any) -> Any:
        self.asked.append(request)
        path = request.attributes.request.http.path
        if "slow" in path:
            time.sleep(SLOW_SECONDS)
        response = ext_authz_service_v3.CheckResponse()
        if "deny" in path:
            response.status.CopyFrom(status.Status(code=7))
            response.denied_response.status.CopyFrom(type_v3.HttpStatus(code=401))
            response.dynamic_metadata.update(SPOOFED_REASON)
            return response
        response.status.CopyFrom(status.Status(code=0))
        for name, value in ON_ALLOW.items():
            header = core_v3.HeaderValue(key=name, value=value)
            response.ok_response.headers.append(core_v3.HeaderValueOption(header=header))
        for tier in ("gold", "silver"):
            if tier in path:
                response.dynamic_metadata.update({"tier": tier, "tiers": ["any", tier], **SPOOFED})
        return response

    def __enter__(self) -> GrpcAuthz:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()


def mesh_config(**fields: Any) -> str:
    """The ConfigMap with Istio's mesh configuration."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": json.dumps(fields)},
        }
    )
