from __future__ import annotations

from isthmus.analyze.absent_claim import CHECK
from tests.analyze.manifest import ORDERS, found


def policy(rules: str, app: str = "orders") -> str:
    """Its rules begin on line 6."""
    return (
        "apiVersion: isthmus.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: it, namespace: shop}\nspec:\n"
        f"  selector: {{matchLabels: {{app: {app}}}}}\n  rules: [{rules}]\n"
    )


def test_a_claim_that_is_compared_and_may_be_absent() -> None:
    assert found(CHECK, policy("{when: \"!(claims.blocked == true) && claims['tier'] == 1\"}"), ORDERS) == [
        '6 info ISM5080: of a token without "blocked", "tier" what compares it is an error: '
        "not true, and with a ! before it not true either"
    ]


def test_what_is_asked_for_first_or_always_there_is_good() -> None:
    good = "has(claims.a) && claims.a == 1 && ('b' in claims ? claims.b == 1 : true) && claims.sub == 'x'"
    assert found(CHECK, policy(f'{{when: "{good}"}}, {{scopes: [a]}}'), ORDERS) == []
