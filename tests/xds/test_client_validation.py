from __future__ import annotations

import pytest

from isthmus.envoy_api.packages import tls_v3
from isthmus.model.client_traffic import ANY_CERTIFICATE, ClientValidation, SanMatch, SanType, Wildcard
from isthmus.model.gateway import ServerTls, ServerTlsMode
from isthmus.model.match import Exact, Prefix, Regex, Suffix
from isthmus.xds.client_validation import add_client_validation, build_san_matcher, client_roots_name
from isthmus.xds.secret import sds_secret


@pytest.mark.parametrize(
    ("san", "how", "value"),
    [
        (SanMatch(SanType.DNS, Exact("a.corp")), "safe_regex", r"(?i)a\.corp"),
        (SanMatch(SanType.DNS, Wildcard("*.corp")), "safe_regex", r"(?i)[a-z0-9_-]+\.corp"),
        (SanMatch(SanType.DNS, Suffix(".corp")), "suffix", ".corp"),
        (SanMatch(SanType.URI, Exact("spiffe://a/b")), "exact", "spiffe://a/b"),
        (SanMatch(SanType.URI, Regex("spiffe://a/.+")), "safe_regex", "spiffe://a/.+"),
        (SanMatch(SanType.EMAIL, Prefix("me@")), "prefix", "me@"),
        (SanMatch(SanType.IP_ADDRESS, Exact("2001:DB8:0::1")), "exact", "2001:db8::1"),
    ],
)
def test_names(san: SanMatch, how: str, value: str) -> None:
    found = build_san_matcher(san)
    assert found.SanType.Name(found.san_type) == san.type.value
    matched = getattr(found.matcher, found.matcher.WhichOneof("match_pattern"))
    assert (found.matcher.WhichOneof("match_pattern"), getattr(matched, "regex", matched)) == (how, value)
    assert found.matcher.ignore_case is (san.type is SanType.DNS and how in ("prefix", "suffix"))


def test_the_type_of_another_name() -> None:
    assert build_san_matcher(SanMatch(SanType.OTHER_NAME, Exact("me"), "1.2.3")).oid == "1.2.3"


def test_without_demands_the_roots_stand_alone() -> None:
    common = tls_v3.CommonTlsContext()
    add_client_validation(common, ANY_CERTIFICATE, sds_secret("roots"))
    assert common.validation_context_sds_secret_config.name == "roots"
    add_client_validation(common, ClientValidation(certificate_hashes=("AB",)), sds_secret("roots"))
    assert list(common.combined_validation_context.default_validation_context.verify_certificate_hash) == ["AB"]


def test_the_secret_of_cas_and_lists() -> None:
    tls = ServerTls(ServerTlsMode.MUTUAL, ("cert",), "ca", validation=ClientValidation(crl_secrets=("one", "two")))
    assert client_roots_name(tls, "shop") == "credential-ca:shop/ca~one~two"
