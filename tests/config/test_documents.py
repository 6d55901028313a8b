from __future__ import annotations

from hashlib import sha256

import pytest

from isthmus.config.documents import Broken, drop_duplicates, guess, identity
from isthmus.diag import Ref, Report, Source

from .writing import documents, read_text, service, shown

GOOD = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: edge.main
  namespace: istio-system
  labels: {app: "1"}
  annotations:
    example.com/note: |
      long
spec: {selector: {istio: edge}}
"""


def told(text: str) -> list[str]:
    report = Report()
    results = read_text(text, report)
    assert not any(result.documents for result in results)
    assert all(result.broken for result in results)
    return shown(report)


def test_a_document_has_what_every_object_has() -> None:
    (document,) = documents("# c\n---\n" + GOOD)
    ref = Ref("Gateway", "istio-system", "edge.main")
    assert (document.api_version, document.ref, document.source) == (
        "networking.istio.io/v1",
        ref,
        Source("t.yaml", 3, 1),
    )
    assert document.labels == {"app": "1"}
    assert document.annotations == {"example.com/note": "long\n"}
    assert document.digest == sha256(GOOD.encode()).hexdigest()
    assert {node.ref for node in document.root.walk()} == {ref}
    assert document.root.at("spec", "selector", "istio").path == "spec.selector.istio"


@pytest.mark.parametrize("metadata", ["{name: a}", "{name: a, namespace: }", "{name: a, namespace: ''}"])
def test_the_default_namespace(metadata: str) -> None:
    (document,) = documents(f"apiVersion: v1\nkind: Service\nmetadata: {metadata}\n")
    assert document.ref == Ref("Service", "default", "a")
    assert document.labels == document.annotations == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("just text\n", '1:1 ISM1004 a resource is a mapping with apiVersion and kind, found the string "just text"'),
        ("[a]\n", "1:1 ISM1004 a resource is a mapping with apiVersion and kind, found a list"),
        ("kind: Service\nmetadata: {name: a}\n", '1:1 ISM1004 the field "apiVersion" is missing'),
        ("apiVersion: v1\nkind:\nmetadata: {name: a}\n", '1:1 ISM1004 the field "kind" is missing'),
        ("apiVersion: v1\nkind: [a]\n", "2:7 ISM1102 expected a string, found a list"),
        ("apiVersion: v1\nkind: Service\n", "1:1 ISM1005 metadata.name is missing"),
        ("apiVersion: v1\nkind: Service\nmetadata: {namespace: a}\n", "3:11 ISM1005 metadata.name is missing"),
        ("apiVersion: v1\nkind: Service\nmetadata: text\n", "3:11 ISM1005 metadata.name is missing"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: 5}\n", "3:18 ISM1102 expected a string, found a number"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: Web_1}\n",
            '3:18 ISM1005 "Web_1" is not a name: lower-case letters, digits, "-" and ".", up to 253',
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: a.b}\n",
            '3:32 ISM1005 "a.b" is not a namespace: lower-case letters, digits, "-", up to 63',
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {x: true}}\n",
            "3:33 ISM1102 expected a string, found a boolean",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: [x]}\n",
            "3:34 ISM1102 expected a mapping, found a list",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespce: shop}\n",
            '3:21 ISM1101 no field "namespce" in metadata (did you mean "namespace"?)',
        ),
    ],
)
def test_what_no_document_may_be(text: str, fault: str) -> None:
    assert told(text) == [fault]


@pytest.mark.parametrize(
    ("name", "good"),
    [("a", 1), ("a.b-c.9", 1), ("a" * 253, 1), ("a" * 254, 0), ("-a", 0), ("a.", 0), ("a..b", 0), ("a:b", 0), ("é", 0)],
)
def test_names_are_dns_subdomains(name: str, good: int) -> None:
    report = Report()
    (result,) = read_text(service(name), report)
    assert len(result.documents) == good
    assert len(report) == 1 - good


def test_names_of_rbac_are_free() -> None:
    (document,) = documents(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: 'system:node'}\n"
    )
    assert document.ref.name == "system:node"


def test_faults_of_labels_name_the_resource_and_the_path() -> None:
    report = Report()
    read_text("apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {'x.y/z': 1}}\n", report)
    (fault,) = report
    assert (fault.ref, fault.path) == (Ref("Service", "default", "a"), 'metadata.labels["x.y/z"]')


LIST = """\
apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
  - apiVersion: v1
    kind: Service
    metadata: {name: a}
  - kind: Service
  - apiVersion: v1
    kind: List
    items:
      - {apiVersion: v1, kind: Namespace, metadata: {name: b}}
"""


def test_a_list_is_unfolded_and_a_bad_item_spares_the_others() -> None:
    report = Report()
    (result,) = read_text(LIST, report)
    assert [str(document.ref) for document in result.documents] == ["Service/default/a", "Namespace/default/b"]
    assert result.documents[0].source == Source("t.yaml", 5, 5)
    assert result.documents[0].root.at("metadata", "name").path == "metadata.name"
    assert shown(report) == ['8:5 ISM1004 the field "apiVersion" is missing']
    assert [broken.kind for broken in result.broken] == ["Service"]


def test_the_digest_of_an_item_changes_with_the_item_only() -> None:
    before, after = (
        documents(LIST.replace("  - kind: Service\n", "")),
        documents(LIST.replace("  - kind: Service\n", "").replace("{name: a}", "{name: a, labels: {x: y}}")),
    )
    assert before[0].digest != after[0].digest
    assert before[1].digest == after[1].digest


@pytest.mark.parametrize("items", ["", "items:\n", "items: []\n"])
def test_an_empty_list_is_nothing(items: str) -> None:
    assert documents(f"apiVersion: v1\nkind: List\n{items}") == ()


def test_items_that_are_no_list() -> None:
    assert told("apiVersion: v1\nkind: List\nitems: {a: 1}\n") == [
        "3:8 ISM1004 the items of a List are a list, found a mapping"
    ]


def test_a_broken_document_tells_what_it_can() -> None:
    (result,) = read_text(GOOD.replace("edge.main", "Edge"), report := Report())
    (broken,) = result.broken
    assert len(report) == 1
    assert told_of(broken) == ("networking.istio.io/v1", "Gateway", "istio-system", "Edge")
    assert broken.root is not None
    assert broken.root.at("spec", "selector", "istio").value == "edge"


def told_of(broken: Broken) -> tuple[str, str, str, str]:
    return broken.api_version, broken.kind, broken.namespace, broken.name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("spec:", "\tspec:"), ("networking.istio.io/v1", "Gateway", "istio-system", "edge.main")),
        ("kind: A # c\nmetadata:\n\tname: 'x'\nspec:\n  kind: B\n", ("", "A", "default", "x")),
        ('{"spec":{"name":"y"},"kind": "A", "metadata": {"namespace": "n",', ("", "A", "n", "y")),
        ('{\n  "kind": "A",\n  "metadata": {\n    "name": "x",\n', ("", "A", "default", "x")),
        ("nothing to see", ("", "", "default", "")),
    ],
)
def test_guesses_at_what_is_not_yaml(text: str, expected: tuple[str, str, str, str]) -> None:
    assert told_of(guess(text, Source("t.yaml", 1, 1), "default")) == expected


def test_the_first_of_two_equal_names_wins_whatever_the_version() -> None:
    text = GOOD + "---\n" + GOOD.replace("io/v1", "io/v1beta1").replace('"1"', '"2"')
    report = Report()
    kept = drop_duplicates(documents(text), report)
    assert [document.labels["app"] for document in kept] == ["1"]
    (fault,) = report
    assert shown(report) == [
        "12:1 ISM1006 Gateway/istio-system/edge.main is given already at t.yaml:1:1; this one is not used"
    ]
    assert fault.ref == kept[0].ref


def test_equal_names_in_other_groups_are_other_resources() -> None:
    both = documents(GOOD + "---\n" + GOOD.replace("networking.istio.io", "gateway.networking.k8s.io"))
    assert drop_duplicates(both, report := Report()) == both
    assert not len(report)
    assert identity(both[0]) != identity(both[1])
