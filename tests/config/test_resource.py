from __future__ import annotations

from isthmus.config.resource import Resource
from isthmus.diag import Origin

from .writing import documents, service


def test_a_resource_is_named_and_located_by_its_document() -> None:
    (document,) = documents(service("cart"))
    resource = Resource(document.ref, document.source, document.labels, document.annotations, "a spec", document.root)
    assert (resource.name, resource.namespace, resource.spec) == ("cart", "shop", "a spec")
    assert resource.origin == Origin(document.ref, document.source)
    assert str(resource.origin) == "Service/shop/cart (t.yaml:1:1)"
