"""``isthmus up``: control plane, gateways, sidecars and local workloads from manifests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.cli.bundle_endpoint import DEFAULT_HINT, Certificate, Endpoint, Hint, Key, read_bundle_endpoint
from isthmus.cli.launch import Launch, launch
from isthmus.cli.option import DEFAULT_STATE, Paths, SpireSocket, State, Strict
from isthmus.cli.publish import (
    Ca,
    Jwks,
    JwksRefresh,
    Publish,
    SvidTtl,
    read_jwks_files,
    read_jwks_refresh,
    read_published,
    read_svid_ttl,
)
from isthmus.proxy.workload_api.socket_file import socket_path
from isthmus.serve.options import ServeOptions


def up(
    paths: Paths,
    publish: Publish = None,
    jwks: Jwks = None,
    jwks_refresh: JwksRefresh = "20m",
    ready_file: Annotated[
        Path | None, typer.Option("--ready-file", metavar="F", help="Written whole when every proxy is in sync.")
    ] = None,
    svid_ttl: SvidTtl = "1h",
    strict: Strict = False,
    ca: Ca = None,
    bundle_endpoint: Endpoint = None,
    bundle_cert: Certificate = None,
    bundle_key: Key = None,
    bundle_refresh_hint: Hint = DEFAULT_HINT,
    workload_api_socket: Annotated[
        Path | None,
        typer.Option(
            "--workload-api-socket",
            metavar="PATH",
            help="The SPIFFE Workload API for every user of this machine, too: who asks is told by the kernel.",
        ),
    ] = None,
    spire_socket: SpireSocket = None,
    state: State = DEFAULT_STATE,
) -> int:
    """Run a gateway and a mesh from manifests, and watch them: a change is in force at once.

    Ctrl-C drains and stops; a second one stops at once.

    Examples:

        isthmus up shop/

        isthmus up shop/ -p 8443:443 --jwks https://auth.example.com=dev-jwks.json

        isthmus up shop/ --ready-file ready.json &
    """
    options = ServeOptions(
        paths=tuple(paths),
        state=state,
        published=read_published(publish),
        jwks_files=read_jwks_files(jwks),
        jwks_refresh=read_jwks_refresh(jwks_refresh),
        svid_ttl=read_svid_ttl(svid_ttl),
        strict=strict,
        ca=ca,
        bundle_endpoint=read_bundle_endpoint(bundle_endpoint, bundle_cert, bundle_key, bundle_refresh_hint),
        spire=socket_path(spire_socket) if spire_socket is not None else None,
    )
    return asyncio.run(launch(Launch(options, ready_file, workload_api_socket), announce))


async def announce(ready: dict[str, Any]) -> int | None:
    """Say what runs and where."""
    for gateway in ready["gateways"]:
        for listener in gateway["listeners"]:
            hosts = ", ".join(listener["hosts"])
            name = f"{gateway['namespace']}/{gateway['name']}"
            typer.echo(
                f"gateway {name}: port {listener['declared_port']} at {listener['address']} for {hosts}", err=True
            )
    for workload in ready["workloads"]:
        ports = ", ".join(f"{number} at {address}" for number, address in workload["inbound"].items())
        name = f"{workload['namespace']}/{workload['name']}"
        typer.echo(f"workload {name} ({workload['spiffe_id']}): {ports or 'calls only'}", err=True)
    typer.echo(f"SPIFFE Workload API: {ready['workload_api']}", err=True)
    open_ones = [one["name"] for one in ready["workloads"] if one["inbound"] and not one["isolated"]]
    if open_ones:
        names = ", ".join(open_ones)
        typer.echo(
            "note: a program's own port beside its sidecar can be reached by every process of this machine"
            f" ({names}: in the machine's network)",
            err=True,
        )
    if not ready["gateways"] and not ready["workloads"]:
        typer.echo("nothing runs yet: the manifests declare no gateway and no workload of this machine", err=True)
    typer.echo("ready: every proxy is in sync; Ctrl-C stops", err=True)
    return None
