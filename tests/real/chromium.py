"""Chromium, as the distribution ships it: for what a person does in a browser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from playwright.sync_api import Page, sync_playwright

from tests.real.servers import find_server

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE_MILLISECONDS = 60_000


@contextlib.contextmanager
def new_page(*hosts: str) -> Iterator[Page]:
    """A page of a browser without a past, for which ``hosts`` are this machine. It takes any certificate."""
    rules = ", ".join(f"MAP {host} 127.0.0.1" for host in hosts)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_server("chromium", "/usr/bin"),
            args=[*_FLAGS, f"--host-resolver-rules={rules}"],
            timeout=_PATIENCE_MILLISECONDS,
        )
        try:
            context = browser.new_context(ignore_https_errors=True)
            context.set_default_timeout(_PATIENCE_MILLISECONDS)
            yield context.new_page()
        finally:
            browser.close()
