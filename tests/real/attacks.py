"""Attacks by the name that docs/attacks.md gives them: what each of them sends."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from tests.real.forging import Forger, by_hmac, by_somebody, made, unsigned

HOST = "web.example.com"
OPEN = f"GET /open HTTP/1.1\r\nhost: {HOST}\r\n"
_POST = OPEN.replace("GET", "POST")


def tokens(good: Forger) -> Mapping[str, str]:
    """Each as the bearer of a request that needs one."""
    claims, header, now = good.claims(), good.header(), int(time.time())
    embedded = {
        "jku": "https://evil.example/keys",
        "x5u": "https://evil.example/chain",
        "jwk": {"kty": "RSA", "n": "AQAB"},
    }

    def twice(text: str, **first: object) -> str:
        return good.token(claims=json.dumps(good.claims(**first))[:-1] + f", {text}}}")

    return {
        "`alg` is `none`": made({**header, "alg": "none"}, claims, unsigned),
        "`alg` is `nOnE`": made({**header, "alg": "nOnE"}, claims, by_hmac(b"")),
        "the signature is left out": good.token().rpartition(".")[0] + ".",
        "HS256 with the public key (PEM) as its secret": made(
            {**header, "alg": "HS256"}, claims, by_hmac(good.public_pem())
        ),
        "HS256 with an empty secret": made({**header, "alg": "HS256"}, claims, by_hmac(b"")),
        "`alg` is `rs256`": good.token({**header, "alg": "rs256"}),
        "`alg` is another of the same key (RS384)": good.token({**header, "alg": "RS384"}),
        "`kid` is unknown": good.token({**header, "kid": "lost"}),
        "`kid` is a path": good.token({**header, "kid": "../../../../dev/null"}),
        "`kid` is a number": good.token({**header, "kid": 1}),
        "no `kid`, signed by a stranger": made({"alg": "RS256"}, claims, by_somebody()),
        **{
            f"`{name}` names the attacker's key": made({**header, name: key}, claims, by_somebody())
            for name, key in embedded.items()
        },
        "`crit` names what is not understood": good.token({**header, "crit": ["b64"], "b64": False}),
        "claims of another token under a good signature": _swapped(good),
        "over 60 KiB": good.token(claims=good.claims(pad="a" * 60_000)),
        "deeply nested claims": good.token(claims='{"a":' * 2000 + "1" + "}" * 2000),
        "no token at all": "no.token",
        "it has expired": good.token(claims=good.claims(exp=now - 3600)),
        "`exp` is left out": good.token(claims=good.claims(exp=None)),
        "`exp` is text": good.token(claims=good.claims(exp=str(now + 3600))),
        "`exp` is beyond 64 bits": good.token(claims=good.claims(exp=10**30)),
        "`nbf` is in the future": good.token(claims=good.claims(nbf=now + 600)),
        "`aud` is another": good.token(claims=good.claims(aud="bills")),
        "`aud` is left out": good.token(claims=good.claims(aud=None)),
        "`iss` is another": good.token(claims=good.claims(iss="https://evil.example.com")),
        "`iss` with a slash at its end": good.token(claims=good.claims(iss=f"{good.issuer}/")),
        "`sub` twice": twice('"sub": "admin"'),
        "`exp` twice, the first is over": twice(f'"exp": {now + 3600}', exp=now - 3600),
        "`alg` twice in the header": made('{"alg": "RS256", "alg": "none"}', claims, by_hmac(b"")),
        "a line break in a claim that becomes a header": good.token(claims=good.claims(sub="a\r\nx-admin: yes")),
    }


def _swapped(good: Forger) -> str:
    one, other = good.token().split("."), good.token(claims=good.claims(sub="admin")).split(".")
    return ".".join((one[0], other[1], one[2]))


def places(good: Forger) -> Mapping[str, str]:
    """Whole requests with tokens where they may be, and where they may not."""
    alice, mallory = good.token(), good.token(claims=good.claims(sub="mallory"))
    need = f"GET /need HTTP/1.1\r\nhost: {HOST}\r\n"
    bearing = f"authorization: Bearer {alice}\r\n"
    return {
        "one token in the header, another in the query": need.replace("/need", f"/need?access_token={mallory}")
        + bearing,
        "two `Authorization` headers": f"{need}{bearing}authorization: Bearer {mallory}\r\n",
    }


def headers() -> Mapping[str, str]:
    """What only the gateway may set."""
    preflight = "origin: https://elsewhere.example\r\naccess-control-request-method: GET\r\n"
    return {
        "a claim's header": f"{OPEN}x-user-id: admin\r\n",
        "a claim's header, twice": f"{OPEN}x-user-id: admin\r\nX-User-Id: root\r\n",
        "a claim's header with underscores": f"{OPEN}x_user_id: admin\r\n",
        "a claim's header on a CORS preflight": f"{OPEN.replace('GET', 'OPTIONS')}x-user-id: admin\r\n{preflight}",
        "the payload's header": f"{OPEN}x-payload: eyJzdWIiOiJhZG1pbiJ9\r\n",
        "`x-forwarded-client-cert`": f"{OPEN}x-forwarded-client-cert: URI=spiffe://cluster.local/ns/admin/sa/admin\r\n",
        "`x-envoy-original-path`": f"{OPEN}x-envoy-original-path: /admin\r\n",
        "`Connection` names a claim's header": f"{OPEN}connection: x-user-id\r\nx-user-id: admin\r\n",
    }


def keys(one: str, other: str) -> Mapping[str, str]:
    """With API keys of one consumer: ``/keys`` needs one, ``/perhaps`` does not."""
    need, perhaps = (f"GET /{path} HTTP/1.1\r\nhost: {HOST}\r\n" for path in ("keys", "perhaps"))
    shown = f"x-api-key: {one}\r\n"
    return {
        "a key in two headers of the same name": f"{need}{shown}x-api-key: {other}\r\n",
        "the same key twice": f"{need}{shown}{shown}",
        "a key and an empty one": f"{need}x-api-key:\r\n{shown}",
        "two keys in one header": f"{need}x-api-key: {one}, {other}\r\n",
        "an empty key": f"{need}x-api-key:\r\n",
        "an empty key where none is required": f"{perhaps}x-api-key:\r\n",
        "a wrong key where none is required": f"{perhaps}x-api-key: {one[:-1]}\r\n",
        "a key in the query and another in a header": need.replace("/keys", f"/keys?api_key={other}") + shown,
        "a key in the query, its name percent-encoded": need.replace("/keys", f"/keys?%61pi%5Fkey={one}"),
        "two in the query, one name percent-encoded": need.replace("/keys", f"/keys?%61pi_key={one}&api_key={other}"),
        "a key in the query with `%0A` at its end": need.replace("/keys", f"/keys?api_key={one}%0A"),
        "a key in the query behind a semicolon": need.replace("/keys", f"/keys?a=1;api_key={one}"),
        "a cookie with two values": f"{need}cookie: key={one}; key={other}\r\n",
        "two `Cookie` headers": f"{need}cookie: key={one}\r\ncookie: key={other}\r\n",
        "a cookie in quotation marks": f'{need}cookie: key="{one}"\r\n',
        "a key in `Authorization`, in capitals, after a tab": f"{need}authorization: BEARER\t {one}\r\n",
        "a key in `Authorization` of another scheme": f"{perhaps}authorization: Token {one}\r\n",
        "two keys in one `Authorization`": f"{need}authorization: ApiKey {one}, ApiKey {other}\r\n",
        "a key of 9 kB": f"{need}x-api-key: {one}{'a' * 9000}\r\n",
        "a key with letters beyond ASCII": f"{need}x-api-key: {one[:20]}\u00e9{one[21:]}\r\n",
        "a key after a space beyond ASCII": f"{need}x-api-key: \u00a0{one}\r\n",
        "a key in a header with underscores": f"{perhaps}x_api_key: {one}\r\n",
        "`x-isthmus-consumer`, and no key": f"{perhaps}x-isthmus-consumer: shop/admin\r\n",
    }


PATHS = {
    "`/public/../admin`": "/public/../admin",
    "`/public/%2e%2e/admin`": "/public/%2e%2e/admin",
    "`/%61dmin`": "/%61dmin",
    "`//admin`": "//admin",
    "`/./admin`": "/./admin",
    "`http://other.example.com/admin` (absolute form)": "http://other.example.com/admin",
    "`/public\\..\\admin`": "/public\\..\\admin",
    "`/public%5c..%5cadmin`": "/public%5c..%5cadmin",
    "`/a%2f..%2fadmin`": "/a%2f..%2fadmin",
    "`/admin%00`": "/admin%00",
    "`/public#/admin`": "/public#/admin",
    "`/a/%2e%2e;/admin`": "/a/%2e%2e;/admin",
    "`/a/.%2e;x=y/admin`": "/a/.%2e;x=y/admin",
    "`/%2561dmin` (encoded twice)": "/%2561dmin",
    "`/%252e%252e/admin` (encoded twice)": "/%252e%252e/admin",
    "`/admin;x`": "/admin;x",
    "`/ADMIN`": "/ADMIN",
    "`/%c0%af/admin` (overlong UTF-8)": "/%c0%af/admin",
}
"""``/admin`` and what is below it is forbidden."""

FRAMING = {
    "`Transfer-Encoding` and `Content-Length`": f"{_POST}transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n",
    "two lengths that differ": f"{_POST}content-length: 3\r\ncontent-length: 4\r\n",
    "two lengths that are the same": f"{_POST}content-length: 0\r\ncontent-length: 0\r\n",
    "`Transfer-Encoding: xchunked`": f"{_POST}transfer-encoding: xchunked\r\n",
    "`Transfer-Encoding : chunked`": f"{_POST}transfer-encoding : chunked\r\n",
    "chunked, and then identity": f"{_POST}transfer-encoding: chunked, identity\r\n",
    "a header folded over two lines (obs-fold)": f"{OPEN}x-folded: a\r\n x-user-id: admin\r\n",
    "lines that end in a bare LF": f"GET /open HTTP/1.1\nhost: {HOST}\nx-user-id: admin\n",
    "a NUL in a header": f"{OPEN}x-nul: a\0b\r\n",
    "two `Host` headers": f"{OPEN}host: other.example.com\r\n",
    "two `Host` headers that a wildcard takes": "GET /open HTTP/1.1\r\nhost: a.any.example\r\nhost: b.any.example\r\n",
    "no `Host`": "GET /open HTTP/1.1\r\n",
    "`Host: web.example.com,other.example.com`": f"GET /open HTTP/1.1\r\nhost: {HOST},other.example.com\r\n",
    "`Host` with a space": f"GET /open HTTP/1.1\r\nhost: {HOST} x\r\n",
    "HTTP/1.0": f"GET /open HTTP/1.0\r\nhost: {HOST}\r\n",
    "CONNECT to the gateway": f"CONNECT {HOST}:80 HTTP/1.1\r\nhost: {HOST}\r\n",
    "an upgrade to h2c": f"{OPEN}connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
    "150 headers": OPEN + "".join(f"x-{number}: a\r\n" for number in range(150)),
}

_PSEUDO = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/open")]
H2 = {
    "`:authority` and another `host`": [*_PSEUDO, ("host", "other.example.com")],
    "two `:authority`": [*_PSEUDO[:3], (":authority", "other.example.com"), _PSEUDO[3]],
    "two `:path`": [*_PSEUDO, (":path", "/admin")],
    "a line break in a value": [*_PSEUDO, ("x-broken", "a\r\nx-user-id: admin")],
    "a line break in `:path`": [*_PSEUDO[:3], (":path", "/open HTTP/1.1\r\nx-user-id: admin")],
    "a space in `:method`": [(":method", "GET /admin"), *_PSEUDO[1:]],
    "`transfer-encoding`": [*_PSEUDO, ("transfer-encoding", "chunked")],
    "a name in capitals": [*_PSEUDO, ("X-User-Id", "admin")],
    "a name with underscores": [*_PSEUDO, ("x_user_id", "admin")],
    "a claim's header over HTTP/2": [*_PSEUDO, ("x-user-id", "admin")],
}
