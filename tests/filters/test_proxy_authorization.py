from __future__ import annotations

import pytest

from isthmus.envoy_api import unpack
from isthmus.filters.proxy_authorization import (
    POLICY,
    PROXY_AUTHORIZATION,
    ProxyAuthorization,
    local_reply_mapper,
)


def test_denies_all_but_the_credential_then_takes_the_header_away():
    guard, strip = PROXY_AUTHORIZATION.build(ProxyAuthorization("Basic dzpzZWNyZXQ="))
    rules = unpack(guard.typed_config).rules
    strangers = rules.policies[POLICY].permissions[0].not_rule.header
    assert (strangers.name, strangers.string_match.exact) == ("proxy-authorization", "Basic dzpzZWNyZXQ=")
    assert [m.remove for m in unpack(strip.typed_config).mutations.request_mutations] == ["proxy-authorization"]


def test_no_credential_is_no_proxy():
    with pytest.raises(ValueError, match="empty credential"):
        PROXY_AUTHORIZATION.build(ProxyAuthorization(""))


def test_the_credential_is_not_shown():
    assert "secret" not in repr(ProxyAuthorization("Basic secret"))


def test_the_mapper_names_this_filters_denial_alone():
    (mapper,) = local_reply_mapper().mappers
    condition = unpack(mapper.filter.extension_filter.typed_config)
    assert condition.expression == f"response.code_details == 'rbac_access_denied_matched_policy[{POLICY}]'"
    assert mapper.status_code.value == 407
