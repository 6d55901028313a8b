"""The Rego service as a process, with bundles: what it is told by standard input, and whom it lets in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest

from isthmus.envoy_api.packages import ext_authz_service_v3
from isthmus.model.rego import POLICIES
from isthmus.model.rego_bundle import bundle_file
from isthmus.state import StateDir
from tests.decide.rego.packing import pack, users

NAME = "shop/authz"


class Process:
    def __init__(self, folder: Path) -> None:
        self.state = StateDir.at(folder / "state").open()
        self._socket = folder / "s"
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            (sys.executable, "-m", "isthmus.decide.rego.server"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def begin(self, **policy: Any) -> None:
        first = {"socket": str(self._socket), "state": str(self.state.path), **self._settings(policy)}
        self._write(first)
        self.until(self._socket.exists)
        self._channel = grpc.insecure_channel(f"unix:{self._socket}")
        self._ask = self._channel.unary_unary(
            "/envoy.service.auth.v3.Authorization/Check",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=ext_authz_service_v3.CheckResponse.FromString,
        )

    def tell(self, **policy: Any) -> None:
        self._write(self._settings(policy))

    def _settings(self, policy: dict[str, Any]) -> dict[str, Any]:
        return {"settings": {"policies": {NAME: {"path": "envoy/authz/allow", "dry_run": False, **policy}}}}

    def _write(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def keep(self, packed: bytes) -> str:
        digest = sha256(packed).hexdigest()
        self.state.write_private(bundle_file(digest), packed)
        return digest

    def allows(self, user: str) -> bool:
        request = ext_authz_service_v3.CheckRequest()
        request.attributes.context_extensions[POLICIES] = NAME
        request.attributes.request.http.headers["x-user"] = user
        request.attributes.request.http.headers["authorization"] = "Bearer abc"
        return int(self._ask(request, timeout=20).status.code) == 0

    def until(self, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not check():
            assert time.monotonic() < deadline
            assert self.process.poll() is None
            time.sleep(0.05)

    def end(self) -> list[dict[str, Any]]:
        """The decisions that it told."""
        self._channel.close()
        said, _ = self.process.communicate(timeout=30)
        self._log.close()
        return [json.loads(line) for line in said.splitlines()]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


def test_bundles_come_go_and_are_waited_for(process: Process) -> None:
    alice, bob = pack(users("alice")), pack(users("bob"))
    process.begin(bundle=None)
    assert not process.allows("alice"), "none yet"
    process.tell(bundle=process.keep(alice))
    process.until(lambda: process.allows("alice"))
    # One that is not here yet: the last good one decides, until it comes.
    process.tell(bundle=sha256(bob).hexdigest())
    time.sleep(0.3)
    assert process.allows("alice")
    process.keep(bob)
    process.until(lambda: process.allows("bob"))
    assert not process.allows("alice")
    # Another that cannot be compiled (it was tried before, so something is very wrong): the last good one stays.
    process.tell(bundle=process.keep(pack(users("mallory", policy="package envoy.authz\n\nallow if {"))))
    process.tell(bundle=process.keep(b"rubbish"))
    time.sleep(0.3)
    assert (process.allows("bob"), process.allows("mallory")) == (True, False)
    # Taken back: by other keys it is not to be believed any more.
    process.tell(bundle=None)
    process.until(lambda: not process.allows("bob"))
    assert process.end() == [], "nobody asked for a log"


def test_decisions_are_told_by_standard_output(process: Process) -> None:
    digest = process.keep(pack({**users("alice", revision="seven"), "log.rego": "package system.log\n\nmask := []\n"}))
    process.begin(bundle=digest, log={"labels": {"id": "local"}, "url": None, "token": None})
    process.until(lambda: process.allows("alice"))
    assert not process.allows("mallory")
    *_, first, second = process.end()
    assert (first["result"], second["result"]) == (True, False)
    assert second["bundles"] == {NAME: {"revision": "seven"}}
    assert second["labels"] == {"id": "local", "policy": NAME}
    assert second["erased"] == ["/input/attributes/request/http/headers/authorization"]
