from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import typer

from isthmus.cli.bundle_endpoint import as_arguments, read_bundle_endpoint
from isthmus.model.world import Address
from isthmus.serve.options import BundleEndpoint

FILES = Path("/c.pem"), Path("/k.pem")


@pytest.mark.parametrize(
    ("written", "files", "endpoint"),
    [
        (None, (None, None), None),
        ("127.0.0.1:8443", (None, None), BundleEndpoint(Address("127.0.0.1", 8443))),
        ("[::1]:8443", FILES, BundleEndpoint(Address("::1", 8443), *FILES)),
    ],
)
def test_what_is_read_is_handed_on(
    written: str | None, files: tuple[Path | None, Path | None], endpoint: BundleEndpoint | None
) -> None:
    assert read_bundle_endpoint(written, *files, "5m") == endpoint
    argv = as_arguments(endpoint)
    options = dict(zip(argv[::2], argv[1::2], strict=True))
    handed = (Path(options[name]) if name in options else None for name in ("--bundle-cert", "--bundle-key"))
    again = read_bundle_endpoint(options.get("--bundle-endpoint"), *handed, options.get("--bundle-refresh-hint", "5m"))
    assert again == endpoint


@pytest.mark.parametrize(
    ("written", "files", "hint", "why"),
    [
        ("127.0.0.1", (None, None), "5m", "is not ADDR:PORT"),
        ("host:8443", (None, None), "5m", "is not ADDR:PORT"),
        ("127.0.0.1:0", (None, None), "5m", "is not ADDR:PORT"),
        ("127.0.0.1:1", (FILES[0], None), "5m", "go together"),
        (None, FILES, "5m", "which is not given"),
        ("127.0.0.1:1", (None, None), "10ms", "at least 1s"),
    ],
)
def test_what_cannot_be(written: str | None, files: tuple[Path | None, Path | None], hint: str, why: str) -> None:
    with pytest.raises(typer.BadParameter, match=why):
        read_bundle_endpoint(written, *files, hint)


def test_the_default_hint_is_the_standards() -> None:
    assert BundleEndpoint(Address("127.0.0.1", 1)).refresh_hint == timedelta(minutes=5)
