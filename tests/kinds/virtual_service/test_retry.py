from __future__ import annotations

from datetime import timedelta

import pytest

from isthmus.model.route import Retry

from .route_manifest import forward, route

DEFAULT = ("connect-failure", "refused-stream", "unavailable", "cancelled")


@pytest.mark.parametrize(
    ("retries", "expected"),
    [
        ("name: defaults", Retry(2, DEFAULT)),
        ("retries: {attempts: 0}", Retry(0, DEFAULT)),
        ("retries: {attempts: 1, backoff: 250ms}", Retry(1, DEFAULT, backoff=timedelta(milliseconds=250))),
        ("retries: {attempts: 1, retryIgnorePreviousHosts: false}", Retry(1, DEFAULT, avoid_previous_hosts=False)),
        ("retries: {}", Retry(0, DEFAULT)),
        ("retries: {attempts: 3, perTryTimeout: 2s}", Retry(3, DEFAULT, (), timedelta(seconds=2))),
        (
            "retries: {attempts: 2, retryOn: '5xx,reset, connect-failure'}",
            Retry(2, ("5xx", "reset", "connect-failure")),
        ),
        (
            "retries: {attempts: 1, retryOn: 'gateway-error,503,418'}",
            Retry(1, ("gateway-error", "retriable-status-codes"), (503, 418)),
        ),
        (
            "retries: {attempts: 1, retryOn: 'retriable-status-codes,503'}",
            Retry(1, ("retriable-status-codes",), (503,)),
        ),
    ],
)
def test_retries(retries: str, expected: Retry) -> None:
    assert forward(retries).retry == expected


@pytest.mark.parametrize(
    ("retries", "found"),
    [
        ("retries: {attempts: -1}", "7:25 error ISM1106"),
        ("retries: {perTryTimeout: 2s}", "7:14 error ISM1106"),
        ("retries: {attempts: 0, retryOn: 5xx}", "7:14 error ISM1106"),
        ("retries: {attempts: 1, retryOn: 6xx}", "7:37 error ISM1106"),
        ("retries: {attempts: 1, retryOn: '5xx,'}", "7:37 error ISM1106"),
        ("retries: {attempts: 1, retryOn: '700'}", "7:37 error ISM1106"),
        ("retries: {attempts: 1, perTryTimeout: 0s}", "7:43 error ISM1106"),
        ("retries: {backoff: 1s}", "7:14 error ISM1106"),
        ("retries: {attempts: 0, retryIgnorePreviousHosts: true}", "7:14 error ISM1106"),
        ("retries: {attempts: 1, backoff: 0s}", "7:37 error ISM1106"),
        ("retries: {attempts: 1, retryRemoteLocalities: true}", "7:28 warning ISM1104"),
    ],
)
def test_retries_told_of(retries: str, found: str) -> None:
    done = route(retries)
    assert done.found == [found]
    assert bool(done.mesh.routes) is ("warning" in found)
