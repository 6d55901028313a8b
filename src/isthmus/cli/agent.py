"""``isthmus agent``: the node agent; started by ``up``, spoken to on its standard input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.option import DEFAULT_STATE, State
from isthmus.proxy.agent import main


def agent(
    runtime: Annotated[Path, typer.Option("--runtime", help="The folder of Unix sockets.")],
    workload_api: Annotated[Path | None, typer.Option("--workload-api-socket")] = None,
    spire: Annotated[Path | None, typer.Option("--spire-socket")] = None,
    state: State = DEFAULT_STATE,
) -> int:
    """Hold this machine's proxies' keys: ask for their certificates, serve them to Envoy. For `up` to start."""
    return main(state, runtime, workload_api, spire)
