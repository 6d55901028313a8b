"""Options of the bundle endpoint."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from isthmus.config.decode import parse_duration
from isthmus.model.world import Address
from isthmus.serve.options import BundleEndpoint

Endpoint = Annotated[
    str | None,
    typer.Option(
        "--bundle-endpoint",
        metavar="ADDR:PORT",
        help="Serve the mesh's trust bundle here over HTTPS, for those who federate with it.",
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        "--bundle-cert",
        metavar="FILE",
        help="The bundle endpoint's certificate (profile https_web); without it the control plane's own SVID "
        "(https_spiffe).",
    ),
]
Key = Annotated[Path | None, typer.Option("--bundle-key", metavar="FILE", help="The key of --bundle-cert.")]
Hint = Annotated[
    str, typer.Option("--bundle-refresh-hint", metavar="D", help="How often others are asked to fetch the bundle.")
]
DEFAULT_HINT = "5m"


def read_bundle_endpoint(
    written: str | None, certificate: Path | None, key: Path | None, hint: str
) -> BundleEndpoint | None:
    """Raises BadParameter."""
    if (certificate is None) != (key is None):
        raise typer.BadParameter("--bundle-cert and --bundle-key go together", param_hint="--bundle-cert")
    if written is None:
        if certificate is not None:
            raise typer.BadParameter("it is for --bundle-endpoint, which is not given", param_hint="--bundle-cert")
        return None
    every = parse_duration(hint)
    if every is None or every < timedelta(seconds=1):
        raise typer.BadParameter(f'"{hint}" is not a duration of at least 1s', param_hint="--bundle-refresh-hint")
    return BundleEndpoint(_address(written), _absolute(certificate), _absolute(key), every)


def _absolute(path: Path | None) -> Path | None:
    return path.absolute() if path is not None else None


def _address(written: str) -> Address:
    host, _, port = written.rpartition(":")
    try:
        ip_address(host.strip("[]"))
        number = int(port)
    except ValueError:
        number = 0
    if not 1 <= number <= 65535:
        raise typer.BadParameter(f'"{written}" is not ADDR:PORT', param_hint="--bundle-endpoint")
    return Address(host.strip("[]"), number)


def as_arguments(endpoint: BundleEndpoint | None) -> list[str]:
    """What :func:`read_bundle_endpoint` reads, for the control plane that ``up`` starts."""
    if endpoint is None:
        return []
    argv = ["--bundle-endpoint", str(endpoint.at), "--bundle-refresh-hint", f"{endpoint.refresh_hint.total_seconds()}s"]
    if endpoint.certificate is not None and endpoint.key is not None:
        argv += ["--bundle-cert", str(endpoint.certificate), "--bundle-key", str(endpoint.key)]
    return argv
