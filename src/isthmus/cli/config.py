"""``isthmus config PROXY``: what a proxy was given."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from isthmus.api.client import ApiClient
from isthmus.cli.exit import EXIT_USER
from isthmus.cli.option import DEFAULT_STATE, Format, Output, State
from isthmus.cli.report import print_json
from isthmus.state import StateDir


def config(
    proxy: Annotated[str, typer.Argument(metavar="PROXY", help="NAME, NAMESPACE/NAME or the whole id.")],
    state: State = DEFAULT_STATE,
    output: Output = Format.TEXT,
) -> int:
    """What a running proxy was given: each resource with the manifests that it was made from.

    As text, a line per resource; with -o json, Envoy's own configuration in full.

    Examples:

        isthmus config shop-gateway

        isthmus config shop/orders -o json | jq '.resources.listeners'
    """
    found = asyncio.run(ApiClient(StateDir.at(state).api_socket).config(proxy))
    if found is None:
        typer.echo(f'isthmus: no proxy "{proxy}" (isthmus proxies lists them)', err=True)
        return EXIT_USER
    if output is Format.JSON:
        print_json(found)
    else:
        _print_text(found)
    return 0


def _print_text(found: dict[str, Any]) -> None:
    typer.echo(f"{found['proxy']} {found['snapshot_version']}")
    for kind, resources in found["resources"].items():
        for resource in resources:
            origins = ", ".join(resource["origins"])
            typer.echo(f"{kind[:-1]} {resource['name']} {resource['version'][:12]}  {origins}")
