"""The Rego service: one place's policies leave the others threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import grpc

from isthmus.decide.rego.decider import Checked, Decider
from isthmus.decide.rego.decision import Decision
from isthmus.decide.rego.server import SERVICE, RegoService
from isthmus.envoy_api.packages import ext_authz_service_v3
from isthmus.model.rego import POLICIES


class Silent:
    """A decision log that nobody reads."""

    def log(self, decision: Decision) -> None:
        return


class Slow(Decider):
    """Never ends for the policy ``slow``, until it may."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.may = threading.Event()

    def check(self, names: Sequence[str], request: Any) -> Checked:
        if "shop/slow" in names:
            self.may.wait(60)
        return Checked(ext_authz_service_v3.CheckResponse(), ())


class Details:
    method = f"/{SERVICE}/Check"
    invocation_metadata = ()


def request(name: str) -> Any:
    found = ext_authz_service_v3.CheckRequest()
    found.attributes.context_extensions[POLICIES] = name
    return found


async def test_a_policy_that_never_ends_leaves_others_threads() -> None:
    service = RegoService(Silent())
    slow = service.decider = Slow()
    (handler,) = service.handlers
    found: grpc.RpcMethodHandler | None = handler.service(Details())
    assert found is not None
    check: Any = found.unary_unary
    stuck = [asyncio.create_task(check(request("shop/slow"), None)) for _ in range(16)]
    await asyncio.sleep(0)
    await asyncio.wait_for(check(request("shop/fast"), None), 60)
    for task in stuck[:8]:
        task.cancel()
    # Their threads are at work all the same: none of the others may take more.
    await asyncio.sleep(0)
    await asyncio.wait_for(check(request("shop/fast"), None), 60)
    slow.may.set()
    await asyncio.gather(*stuck[8:])
    await service.close()


def policy(rule: str, **settings: Any) -> dict[str, Any]:
    text = f"package envoy.authz\n\nimport rego.v1\n\ndefault allow := false\n\nallow if {rule}\n"
    return {"path": "envoy/authz/allow", "modules": [{"file": "a.rego", "text": text}], **settings}


async def test_who_is_no_longer_on_trial_refuses_though_the_new_text_is_broken() -> None:
    """The earlier text stays in force, and its trial does not."""
    service = RegoService(Silent())
    try:
        await service.update({"policies": {"shop/a": policy("input.never", dry_run=True)}})
        assert service.decider.policies["shop/a"].dry_run
        await service.update({"policies": {"shop/a": policy("net.cidr_contains(1, 2)", dry_run=False)}})
        kept = service.decider.policies["shop/a"]
        assert kept.engine is not None
        assert not kept.dry_run
    finally:
        await service.close()
