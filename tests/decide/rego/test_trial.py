from __future__ import annotations

from isthmus.decide.rego.trial import problem


def test_a_policy_is_good_or_its_problem_is_said() -> None:
    asked = {"path": "p/v", "modules": [{"file": "p.rego", "text": "package p\nv := data.x"}], "data": {"x": 1}}
    assert problem(asked) is None
    assert problem({**asked, "path": "p/w"}) == "there is no rule data.p.w"
