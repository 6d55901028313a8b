from __future__ import annotations

from isthmus.envoy_api import to_json, unpack
from isthmus.filters.allow_policies import ALLOW_POLICIES, LOG_FIELD, MOST_NAMED, AllowPolicies, listed


def test_the_names_stand_where_the_access_log_reads_them():
    (message,) = ALLOW_POLICIES.build(AllowPolicies(("ns[shop]-policy[a]-rule[0]",)))
    (entry,) = to_json(unpack(message.typed_config))["metadata"]
    namespace, key = LOG_FIELD.removeprefix("%DYNAMIC_METADATA(").removesuffix(")%").split(":")
    assert entry["metadata_namespace"] == namespace
    assert entry["value"] == {key: ["ns[shop]-policy[a]-rule[0]"]}


def test_many_rules_are_told_by_their_policies_and_many_policies_by_their_number():
    def rules(policies, each):
        return [f"ns[shop]-policy[p{at}]-rule[{number}]" for at in range(policies) for number in range(each)]

    assert listed([]) == []
    assert listed(rules(1, MOST_NAMED)) == rules(1, MOST_NAMED)
    assert listed(rules(1, MOST_NAMED + 1)) == ["ns[shop]-policy[p0]"]
    assert listed(rules(MOST_NAMED, 2)) == [f"ns[shop]-policy[p{at}]" for at in range(MOST_NAMED)]
    assert listed(rules(1000, 2)) == ["1000 policies"]
