"""``bundle`` of a RegoPolicy: where its bundle comes from and who must have signed it, in OPA's terms."""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from isthmus.config.decode import Reader, Unreadable, checked, duration, fail, list_of, optional, record, required, text
from isthmus.config.node import Node
from isthmus.diag import Code, Report, Severity
from isthmus.kinds.shape.conversion import converted
from isthmus.model.rego_bundle import BundleKey, BundleSource, BundleVerification

UNPROTECTED = Code(
    "ISM7060",
    Severity.WARNING,
    "A bundle that anybody on the way can change",
    "{url} is fetched without TLS, and no key says who must have signed what comes",
    what="A RegoPolicy's bundle comes over plain http, and verification is not set.",
    why="Whoever stands between here and the server can write the policy.",
    example="bundle: {url: http://bundles.example/authz.tar.gz}",
    fix="Use https, or sign the bundle (opa sign) and set verification.",
)
BROKEN_KEY = Code(
    "ISM7061",
    Severity.ERROR,
    "A key that cannot verify bundles",
    "{reason}",
    what="A key under verification is not a public key of its algorithm, or is one without its counterpart.",
    why="No signature can be verified with it, so no bundle would ever be taken.",
    example="keys: [{id: default, algorithm: RS256, publicKey: '-----BEGIN EC PRIVATE KEY-----…'}]",
    fix="Give the public key in PEM (openssl rsa -pubout), or for HS256 to HS512 the Secret that holds the shared key.",
)

_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_ALGORITHMS = (*_CURVES, *[family + size for family in ("HS", "PS", "RS") for size in ("256", "384", "512")])
_LEAST = timedelta(milliseconds=100)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class KeySpec:
    at: Node
    id: str
    algorithm: str
    public_key: str | None
    credential_name: str | None
    scope: str


@dataclass(frozen=True, slots=True)
class VerificationSpec:
    at: Node
    keys: tuple[KeySpec, ...]
    key_id: str | None
    scope: str


@dataclass(frozen=True, slots=True)
class PollingSpec:
    at: Node
    min: timedelta
    max: timedelta


@dataclass(frozen=True, slots=True)
class BundleSpec:
    at: Node
    url: str | None
    file: str | None
    credential_name: str | None
    polling: PollingSpec | None
    verification: VerificationSpec | None


def _key(written: KeySpec, node: Node, report: Report) -> KeySpec:
    shared = written.algorithm.startswith("HS")
    if shared and (written.credential_name is None or written.public_key is not None):
        raise _broken(report, node, f"{written.algorithm} has a shared key: credentialName, and no publicKey")
    if not shared and (written.public_key is None or written.credential_name is not None):
        raise _broken(report, node, f"{written.algorithm} has a public key: publicKey, and no credentialName")
    if written.public_key is not None:
        problem = _public_key_problem(written.public_key, written.algorithm)
        if problem is not None:
            raise _broken(report, node.at("publicKey"), problem)
    return written


def _broken(report: Report, node: Node, reason: str) -> Unreadable:
    report.add(BROKEN_KEY, node, reason=reason)
    return Unreadable()


def _public_key_problem(pem: str, algorithm: str) -> str | None:
    try:
        found = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        return "publicKey is not a public key in PEM"
    curve = _CURVES.get(algorithm)
    if curve is None:
        return None if isinstance(found, rsa.RSAPublicKey) else f"{algorithm} takes an RSA key"
    good = isinstance(found, ec.EllipticCurvePublicKey) and found.curve.name == curve
    return None if good else f"{algorithm} takes a key on the curve {curve}"


def _verification(written: VerificationSpec, node: Node, report: Report) -> VerificationSpec:
    ids = [key.id for key in written.keys]
    if len(set(ids)) < len(ids):
        raise fail(report, node.at("keys"), "two keys have the same id")
    if written.key_id is not None and written.key_id not in ids:
        raise fail(report, node.at("keyId"), f'no key has the id "{written.key_id}"')
    return written


def _polling(written: PollingSpec, node: Node, report: Report) -> PollingSpec:
    if written.min > written.max:
        raise fail(report, node, "min is longer than max")
    return written


def _bundle(written: BundleSpec, node: Node, report: Report) -> BundleSpec:
    if (written.url is None) == (written.file is None):
        raise fail(report, node, "a bundle comes from a url or from a file: one of the two")
    if written.file is not None and written.credential_name is not None:
        raise fail(report, node.at("credentialName"), "a file needs no token")
    if written.file is not None and written.polling is not None:
        raise fail(report, node.at("polling"), "a file is watched, not polled")
    if written.url is not None and is_plain(written.url):
        if written.credential_name is not None:
            raise fail(report, node.at("credentialName"), "a token is not sent over plain http: use https")
        if written.verification is None:
            report.add(UNPROTECTED, node.at("url"), url=written.url)
    return written


def url_problem(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return f'"{value}" is not an http or https URL'
    if good and "@" in parts.netloc:
        return "a user and a password do not belong into a URL: use credentialName"
    return None if good else f'"{value}" is not an http or https URL'


def is_plain(url: str) -> bool:
    """Whether others can read it on its way."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in _LOOPBACK


def _empty_problem(value: str) -> str | None:
    return None if value else "an empty string is not possible here"


def _algorithm_problem(value: str) -> str | None:
    return None if value in _ALGORITHMS else f'"{value}" is none of {", ".join(_ALGORITHMS)}'


def _delay_problem(value: timedelta) -> str | None:
    return None if value >= _LEAST else "a server is not asked more than ten times a second"


word = checked(text, _empty_problem)
_url = checked(text, url_problem)
_delay = checked(duration, _delay_problem)

_KEY: Reader[KeySpec] = converted(
    record(
        KeySpec,
        required("id", word, note='as the signature names it; "default" is what opa sign writes'),
        required("algorithm", checked(text, _algorithm_problem)),
        optional("publicKey", word, note="PEM"),
        optional("credentialName", word, note='of HS256 to HS512: a Secret with "key"'),
        optional("scope", text, ""),
    ),
    _key,
)
_VERIFICATION: Reader[VerificationSpec] = converted(
    record(
        VerificationSpec,
        required("keys", list_of(_KEY, least=1)),
        optional("keyId", word, note="the key that must have signed, whatever the signature names"),
        optional("scope", text, "", note="what the signature must be for"),
    ),
    _verification,
)
_POLLING: Reader[PollingSpec] = converted(
    record(
        PollingSpec, optional("min", _delay, timedelta(seconds=60)), optional("max", _delay, timedelta(seconds=120))
    ),
    _polling,
)
BUNDLE: Reader[BundleSpec] = converted(
    record(
        BundleSpec,
        optional("url", _url),
        optional("file", word, note="as seen from the manifest; watched"),
        optional("credentialName", word, note='a Secret with "token", sent as a bearer token'),
        optional("polling", _POLLING, note="how long between two questions: 60s to 120s"),
        optional("verification", _VERIFICATION, note="who must have signed; without it signatures are not looked at"),
    ),
    _bundle,
)


def bundle_source(spec: BundleSpec, namespace: str) -> BundleSource:
    """``namespace``: of the RegoPolicy, and so of its Secrets."""
    if spec.url is not None:
        location = spec.url
    else:
        location = os.path.normpath(os.path.join(os.path.dirname(spec.at.source.file), spec.file or ""))
    polling = {} if spec.polling is None else {"shortest": spec.polling.min, "longest": spec.polling.max}
    return BundleSource(
        location,
        secret_name(namespace, spec.credential_name),
        verification=_keys(spec.verification, namespace),
        **polling,
    )


def _keys(spec: VerificationSpec | None, namespace: str) -> BundleVerification | None:
    if spec is None:
        return None
    keys = tuple(
        BundleKey(key.id, key.algorithm, key.public_key, secret_name(namespace, key.credential_name), key.scope)
        for key in spec.keys
    )
    return BundleVerification(keys, spec.key_id, spec.scope)


def secret_name(namespace: str, name: str | None) -> str | None:
    """``namespace/name``."""
    return None if name is None else f"{namespace}/{name}"
