from __future__ import annotations

import pytest
from tests.kinds.client_traffic_policy.policy_manifest import done, policy

from isthmus.model.client_traffic import SanMatch, SanType, Wildcard
from isthmus.model.match import Exact, Prefix, Regex, Suffix


def names(written: str) -> str:
    """The value of ``subjectAltNames`` begins at 6:45."""
    return policy(f"{{clientValidation: {{subjectAltNames: {written}}}}}", "mutual")


def test_every_type_and_form() -> None:
    found = done(
        names(
            "{dnsNames: [{wildcard: '*.corp'}, {suffix: .corp}], uris: [{prefix: 'spiffe://a/'}], "
            "emailAddresses: [{regex: '.+@corp'}], ipAddresses: [{exact: 10.0.0.1}], "
            "otherNames: [{oid: 1.2.3, exact: x}]}"
        )
    )
    assert found.found == []
    (tls,) = (server.tls for server in found.mesh.gateways[0].servers if server.port_name == "mutual")
    assert tls is not None
    assert tls.validation.sans == (
        SanMatch(SanType.DNS, Wildcard("*.corp")),
        SanMatch(SanType.DNS, Suffix(".corp")),
        SanMatch(SanType.URI, Prefix("spiffe://a/")),
        SanMatch(SanType.EMAIL, Regex(".+@corp")),
        SanMatch(SanType.IP_ADDRESS, Exact("10.0.0.1")),
        SanMatch(SanType.OTHER_NAME, Exact("x"), "1.2.3"),
    )


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("{}", "6:45 error ISM1106"),
        ("{dnsNames: []}", "6:56 error ISM1106"),
        ("{dnsNames: [{}]}", "6:57 error ISM1106"),
        ("{dnsNames: [{exact: ''}]}", "6:65 error ISM1106"),
        ("{dnsNames: [{exact: a, prefix: b}]}", "6:57 error ISM1106"),
        ("{dnsNames: [{wildcard: a.corp}]}", "6:68 error ISM1106"),
        ("{dnsNames: [{wildcard: '*'}]}", "6:68 error ISM1106"),
        ("{dnsNames: [{wildcard: '*.*.corp'}]}", "6:68 error ISM1106"),
        ("{dnsNames: [{regex: '('}]}", "6:65 error IST0122"),
        ("{uris: [{wildcard: '*.corp'}]}", "6:54 error ISM1101"),
        ("{ipAddresses: [{exact: 10.0.0}]}", "6:68 error ISM1106"),
        ("{otherNames: [{exact: a}]}", "6:59 error ISM1103"),
        ("{otherNames: [{oid: a, exact: a}]}", "6:65 error ISM1106"),
        ("{commonNames: [{exact: a}]}", "6:46 error ISM1101"),
    ],
)
def test_what_is_no_name(written: str, found: str) -> None:
    assert [one for one in done(names(written)).found if "ISM2006" not in one] == [found]
