from __future__ import annotations

from isthmus import __version__
from tests.cli.manifests import SHOP, write
from tests.cli.running import Isthmus

MISSPELT = SHOP.replace("destination: {host: orders}", "destination: {host: oders}")
"""With one error, IST0101, at line 17."""
PLACE = "shop/shop.yaml:17:36"
UNROUTED = SHOP.replace("hosts: [shop.example.com]\n  gateways", "hosts: [api.example.com]\n  gateways")
"""With one warning, IST0132."""


def test_text_goes_to_standard_output_and_the_sum_to_standard_error(isthmus: Isthmus) -> None:
    write(shop=MISSPELT)
    ran = isthmus("analyze", "shop")
    assert ran.code == 1
    error, info = ran.out.splitlines()
    assert error == (
        f"{PLACE}: error IST0101 VirtualService/shop/shop spec.http[0].route[0].destination.host: "
        'no service named "oders" (did you mean "orders"?)'
    )
    assert info.startswith("shop/shop.yaml:26:1: info ISM5008 WorkloadEntry/shop/orders-1: ")
    assert ran.err == "1 error, 1 info\n"


def test_good_manifests(isthmus: Isthmus) -> None:
    write(shop=SHOP.replace("127.0.0.1", "192.0.2.7"))
    ran = isthmus("analyze", "shop")
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing to report\n")


def test_standard_input(isthmus: Isthmus) -> None:
    ran = isthmus("analyze", "-", stdin=MISSPELT)
    assert ran.code == 1
    assert "<stdin>:17:36: error IST0101" in ran.out


def test_json(isthmus: Isthmus) -> None:
    write(shop=MISSPELT)
    ran = isthmus("analyze", "shop", "-o", "json")
    assert ran.code == 1
    assert ran.err == ""
    assert [found["code"] for found in ran.json] == ["IST0101", "ISM5008"]
    assert ran.json[0] == {
        "code": "IST0101",
        "severity": "error",
        "file": "shop/shop.yaml",
        "line": 17,
        "column": 36,
        "resource": {"kind": "VirtualService", "namespace": "shop", "name": "shop"},
        "path": "spec.http[0].route[0].destination.host",
        "message": 'no service named "oders" (did you mean "orders"?)',
    }


def test_json_of_nothing_is_an_empty_list(isthmus: Isthmus) -> None:
    write(shop=SHOP.replace("127.0.0.1", "192.0.2.7"))
    ran = isthmus("analyze", "shop", "-o", "json")
    assert (ran.code, ran.json) == (0, [])


def test_sarif(isthmus: Isthmus) -> None:
    """The parts that code scanning asks for: SARIF 2.1.0, sections 3.13 to 3.28."""
    write(shop=MISSPELT)
    ran = isthmus("analyze", "shop", "-o", "sarif")
    assert ran.code == 1
    assert ran.json["version"] == "2.1.0"
    assert ran.json["$schema"].endswith("sarif-2.1.0.json")
    (run,) = ran.json["runs"]
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("isthmus", __version__)
    rules = {rule["id"]: rule for rule in driver["rules"]}
    assert [result["ruleId"] for result in run["results"]] == list(rules)
    assert [result["level"] for result in run["results"]] == ["error", "note"]
    for rule in rules.values():
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")
        assert all(rule[part]["text"] for part in ("shortDescription", "fullDescription", "help"))
    first = run["results"][0]
    assert first["message"]["text"].endswith('no service named "oders" (did you mean "orders"?)')
    (location,) = first["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "shop/shop.yaml"},
        "region": {"startLine": 17, "startColumn": 36},
    }


def test_sarif_of_nothing_is_a_run_without_results(isthmus: Isthmus) -> None:
    write(shop=SHOP.replace("127.0.0.1", "192.0.2.7"))
    (run,) = isthmus("analyze", "shop", "-o", "sarif").json["runs"]
    assert (run["results"], run["tool"]["driver"]["rules"]) == ([], [])


def test_github_shows_each_beside_its_line(isthmus: Isthmus) -> None:
    write(shop=MISSPELT)
    ran = isthmus("analyze", "shop", "-o", "github")
    assert ran.code == 1
    error, info = ran.out.splitlines()
    assert error.startswith("::error file=shop/shop.yaml,line=17,col=36,title=IST0101::VirtualService/shop/shop ")
    assert info.startswith("::notice file=shop/shop.yaml,line=26,col=1,title=ISM5008::")


def test_fail_on(isthmus: Isthmus) -> None:
    write(shop=UNROUTED)
    assert "warning IST0132" in isthmus("analyze", "shop").out
    codes = {worst: isthmus("analyze", "shop", "--fail-on", worst).code for worst in ("error", "warning", "info")}
    assert codes == {"error": 0, "warning": 1, "info": 1}
    write(shop=SHOP)
    codes = {worst: isthmus("analyze", "shop", "--fail-on", worst).code for worst in ("error", "warning", "info")}
    assert codes == {"error": 0, "warning": 0, "info": 1}


def test_several_paths_and_one_that_is_not_there(isthmus: Isthmus) -> None:
    write(shop=SHOP)
    ran = isthmus("analyze", "shop", "nowhere.yaml")
    assert ran.code == 1
    assert "nowhere.yaml:1:1: error ISM1008 no such file or folder" in ran.out
