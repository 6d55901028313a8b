from __future__ import annotations

from isthmus.analyze.unknown_consumer import CHECK
from tests.analyze.manifest import ORDERS, found


def policy(rules: str, app: str = "orders") -> str:
    """Its rules begin on line 6."""
    return (
        "apiVersion: isthmus.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: it, namespace: shop}\nspec:\n"
        f"  selector: {{matchLabels: {{app: {app}}}}}\n  rules: [{rules}]\n"
    )


CONSUMER = "apiVersion: isthmus.dev/v1alpha1\nkind: Consumer\nmetadata: {name: acme, namespace: partners}\nspec: {}\n"


def test_a_consumer_that_nobody_declares() -> None:
    assert found(CHECK, policy("{consumers: [acme, partners/acme, partners/acne]}"), ORDERS, CONSUMER) == [
        '6 warning ISM5082: there is no Consumer "partners/acne" (did you mean "partners/acme"?): nobody passes as it',
        '6 warning ISM5082: there is no Consumer "shop/acme" (did you mean "partners/acme"?): nobody passes as it',
    ]
