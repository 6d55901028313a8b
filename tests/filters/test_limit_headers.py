"""What a refusal for a limit tells; on real Envoy: tests/real/test_limits_local.py."""

from __future__ import annotations

from isthmus.envoy_api import unpack
from isthmus.filters.limit_headers import LIMIT_HEADERS, LimitHeaders


def test_only_its_own_refusals_are_touched() -> None:
    (message,) = LIMIT_HEADERS.build(LimitHeaders())
    mutations = unpack(message.typed_config).mutations.response_mutations  # type: ignore[attr-defined]
    headers = [one.append.header for one in mutations]
    assert [one.key for one in headers] == ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after"]
    assert all("response.code_details == 'local_rate_limited'" in one.value for one in headers)
