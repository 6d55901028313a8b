from __future__ import annotations

from isthmus.analyze.access_tcp import CHECK
from tests.analyze.manifest import DATABASE, ORDERS, found


def policy(rules: str, app: str = "orders") -> str:
    """Its rules begin on line 6."""
    return (
        "apiVersion: isthmus.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: it, namespace: shop}\nspec:\n"
        f"  selector: {{matchLabels: {{app: {app}}}}}\n  rules: [{rules}]\n"
    )


def test_it_closes_the_database() -> None:
    assert found(CHECK, policy("{methods: [GET]}", "database"), DATABASE, ORDERS) == [
        "1 warning ISM5081: all that this policy allows are requests: it closes the plain TCP at "
        "shop/database-1 port 5432"
    ]


def test_http_ports_are_good() -> None:
    assert found(CHECK, policy("{methods: [GET]}"), DATABASE, ORDERS) == []
