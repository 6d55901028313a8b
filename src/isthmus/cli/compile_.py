"""``isthmus compile``: one proxy's whole configuration, without running anything."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
import yaml

from isthmus.cli.exit import EXIT_USER
from isthmus.cli.loading import load_or_report
from isthmus.cli.option import Paths
from isthmus.cli.report import print_json
from isthmus.control.offline import offline_world
from isthmus.envoy_api import to_json
from isthmus.xds.static import build_static
from isthmus.xds.translate import translate


class Layout(StrEnum):
    YAML = "yaml"
    JSON = "json"


def compile_(
    paths: Paths,
    proxy: Annotated[
        str | None, typer.Option("--proxy", metavar="NAME", help="NAME, NAMESPACE/NAME or the whole id.")
    ] = None,
    output: Annotated[Layout, typer.Option("-o", "--output")] = Layout.YAML,
) -> int:
    """Print the Envoy configuration of one proxy, whole and static; only keys stay references.

    Without --proxy, list the proxies that the manifests add up to.

    Examples:

        isthmus compile shop/ --proxy shop-gateway

        envoy --mode validate -c <(isthmus compile shop/ --proxy shop-gateway -o json)
    """
    mesh = load_or_report(paths)
    if mesh is None:
        return EXIT_USER
    if proxy is None:
        names = [found.id for found in mesh.proxies]
        if output is Layout.JSON:
            print_json(names)
        else:
            typer.echo("\n".join(names))
        return 0
    chosen = mesh.find_proxy(proxy)
    if chosen is None:
        typer.echo(f'isthmus: no proxy "{proxy}"; there are: {", ".join(p.id for p in mesh.proxies)}', err=True)
        return EXIT_USER
    built = to_json(build_static(translate(mesh, offline_world(mesh), chosen), chosen, "/run/isthmus/sds.sock"))
    if output is Layout.JSON:
        print_json(built)
    else:
        typer.echo(yaml.safe_dump(built, sort_keys=False), nl=False)
    return 0
