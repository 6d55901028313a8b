from __future__ import annotations

from isthmus.envoy_api import to_json, unpack
from isthmus.filters.allow_policies import ALLOW_POLICIES, LOG_FIELD, AllowPolicies


def test_the_names_stand_where_the_access_log_reads_them():
    (message,) = ALLOW_POLICIES.build(AllowPolicies(("ns[shop]-policy[a]-rule[0]",)))
    (entry,) = to_json(unpack(message.typed_config))["metadata"]
    namespace, key = LOG_FIELD.removeprefix("%DYNAMIC_METADATA(").removesuffix(")%").split(":")
    assert entry["metadata_namespace"] == namespace
    assert entry["value"] == {key: ["ns[shop]-policy[a]-rule[0]"]}
