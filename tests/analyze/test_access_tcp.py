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
        "1 warning ISM5081: this policy speaks of requests alone: it closes the plain TCP at shop/database-1 port 5432"
    ]


def test_http_ports_are_good() -> None:
    assert found(CHECK, policy("{methods: [GET]}"), DATABASE, ORDERS) == []


def test_policies_of_other_kinds_close_it_too_where_they_refuse_anybody() -> None:
    head = "apiVersion: isthmus.dev/v1alpha1\nmetadata: {name: it, namespace: shop}\nkind: "
    where = "\nspec:\n  selector: {matchLabels: {app: database}}\n  "
    keys, rego = "methods: [{apiKey: {}}]", "rego: |\n    package envoy.authz\n    default allow := false\n  "
    for kind, spec, count in (
        ("ClientAuthentication", keys, 1),
        ("ClientAuthentication", f"required: false\n  {keys}", 0),
        ("RegoPolicy", rego, 1),
        ("RegoPolicy", f"dryRun: true\n  {rego}", 0),
    ):
        assert len(found(CHECK, f"{head}{kind}{where}{spec}\n", DATABASE)) == count


def test_one_that_another_stands_in_the_place_of() -> None:
    head = (
        "apiVersion: isthmus.dev/v1alpha1\nkind: ClientAuthentication\nmetadata: {name: NAME, namespace: shop}\nspec:\n"
    )
    keys = "  methods: [{apiKey: {}}]\n"
    general = f"{head}  selector: {{}}\n{keys}".replace("NAME", "general")
    own = f"{head}  selector: {{matchLabels: {{app: database}}}}\n  required: false\n{keys}".replace("NAME", "own")
    assert len(found(CHECK, general, DATABASE, ORDERS)) == 1
    assert found(CHECK, general, own, DATABASE, ORDERS) == []


def test_a_gateways_server_of_connections() -> None:
    edge = (
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: tcp, namespace: shop}\nspec:\n"
        "  selector: {app: tcp}\n"
        "  servers: [{port: {number: 5432, name: db, protocol: TCP}, hosts: ['*']}]\n---\n"
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: db, namespace: shop}\nspec:\n"
        "  hosts: ['*']\n  gateways: [tcp]\n  tcp: [{route: [{destination: {host: database}}]}]\n"
    )
    named = (
        "apiVersion: isthmus.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: it, namespace: shop}\nspec:\n"
        "  targetRefs: [{kind: Gateway, name: tcp}]\n  rules: [{methods: [GET]}]\n"
    )
    assert found(CHECK, named, edge, DATABASE) == [
        "1 warning ISM5081: this policy speaks of requests alone: it closes the plain TCP at shop/tcp db"
    ]
    selecting = named.replace("targetRefs: [{kind: Gateway, name: tcp}]", "selector: {matchLabels: {app: tcp}}")
    assert found(CHECK, selecting, edge, DATABASE) == found(CHECK, named, edge, DATABASE)
    own = named.replace("AccessPolicy", "ClientAuthentication").replace(
        "rules: [{methods: [GET]}]", "methods: [{apiKey: {}}]"
    )
    at_server = own.replace("name: tcp}", "name: tcp, sectionName: db}").replace(
        "methods", "required: false\n  methods"
    )
    assert len(found(CHECK, own, edge, DATABASE)) == 1
    assert found(CHECK, own.replace("name: it", "name: all"), at_server, edge, DATABASE) == []
