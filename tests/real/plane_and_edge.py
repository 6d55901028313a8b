"""A control plane, and a gateway on a machine of its own that answers by itself: what policies let in gets 200."""

from __future__ import annotations

import asyncio

import httpx

from isthmus.api.client import ApiClient
from isthmus.errors import IsthmusError
from isthmus.state import StateDir
from tests.real.hosts import EDGE, Host, Program
from tests.real.up import eventually

PORT = 15012
_EDGE = (
    EDGE
    + """\
  http:
    - name: all
      directResponse: {status: 200, body: {string: let in}}
---
"""
)


class PlaneAndEdge:
    """``policies``: the manifests beside the gateway's own."""

    def __init__(self, plane: Host, edge: Host, policies: str) -> None:
        self.plane, self.edge = plane, edge
        (plane.folder / "mesh.yaml").write_text(_EDGE + policies)
        self.serve: Program
        self.proxy: Program

    def start_plane(self) -> None:
        options = ("--listen", f"{self.plane.address}:{PORT}", "--state", "state")
        self.serve = self.plane.isthmus("serve", "serve", "mesh.yaml", *options)
        eventually(self._answers, 120)

    def start_edge(self) -> None:
        token = str(asyncio.run(self.api.invite("edge-1", "gateway:shop/edge", 600))["token"])
        options = ("--control-plane", self.plane.address, "--gateway", "shop/edge", "--state", "state")
        env = {"ISTHMUS_JOIN_TOKEN": token}
        self.proxy = self.edge.isthmus("proxy", "proxy", "gateway", "--ready-file", "ready.json", *options, env=env)
        self.proxy.wait_for(self.edge.folder / "ready.json", 180)

    @property
    def api(self) -> ApiClient:
        return ApiClient(StateDir.at(self.plane.folder / "state").api_socket)

    def asked(self, path: str = "/", **headers: str) -> int:
        """The status of a request; ``x_user`` is ``x-user``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://{self.edge.address}:8080{path}"
        return httpx.get(url, headers=sent, timeout=20, trust_env=False, verify=False).status_code

    def _answers(self) -> bool:
        try:
            return asyncio.run(self.api.nodes()) is not None
        except IsthmusError:
            return False
