from __future__ import annotations

from typing import Any

from isthmus.envoy_api import unpack
from isthmus.filters import FILTERS
from isthmus.filters.decision_time import DECISION_TIME, NAME, STATE, DecisionTime
from isthmus.filters.ext_authz import CUSTOM
from isthmus.filters.fault import FAULT
from isthmus.filters.jwt_authn import JWT_AUTHN
from isthmus.filters.rbac import ALLOW


def test_it_keeps_what_has_passed_until_now() -> None:
    (message,) = DECISION_TIME.build(DecisionTime())
    config: Any = unpack(message.typed_config)
    (value,) = config.on_request_headers
    assert message.name == NAME
    assert value.object_key == STATE
    assert value.format_string.text_format_source.inline_string == "%DURATION%"


def test_it_stands_behind_every_policy_and_before_what_delays_on_purpose() -> None:
    place = FILTERS.index(DECISION_TIME)
    assert all(FILTERS.index(policy) < place for policy in (CUSTOM, JWT_AUTHN, ALLOW))
    assert place < FILTERS.index(FAULT)
