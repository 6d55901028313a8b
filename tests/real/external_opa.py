"""An external OPA, as the OPA-Envoy plugin is one: ext_authz over gRPC on TCP, one policy, nothing of the mesh."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from isthmus.decide.rego.decider import Active, Decider
from isthmus.decide.rego.decision import Decision
from isthmus.decide.rego.engine import compile_policy
from isthmus.decide.rego.source import Module, Policy
from isthmus.envoy_api.packages import ext_authz_service_v3

_PATH = "envoy/authz/allow"


class ExternalOpa:
    """``decisions``: what it was asked and what it answered."""

    def __init__(self, rego: str) -> None:
        self.decisions: list[Decision] = []
        self._decider = Decider(time.time)
        source = Policy("external", (Module("policy.rego", rego),))
        engine = compile_policy(source, (_PATH,))
        self._decider.policies = {"external": Active("external", _PATH, False, source, engine)}
        handler = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=ext_authz_service_v3.CheckRequest.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        self._server = grpc.server(ThreadPoolExecutor(2))
        methods = grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": handler})
        self._server.add_generic_rpc_handlers((methods,))
        self.port = int(self._server.add_insecure_port("127.0.0.1:0"))

    def _check(self, request: Any, _context: Any) -> Any:
        checked = self._decider.check(["external"], request)
        self.decisions += checked.decisions
        return checked.response

    def __enter__(self) -> ExternalOpa:
        self._server.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.stop(None).wait()
