"""Reasons about who the caller is: tokens, credentials, certificates, connections."""

from __future__ import annotations

from isthmus.model.refusal import Details, DetailsBegin, Group, Noted, OwnRoute, Reason, RuleHolding, RuleNamed

_IDENTITY = Group.IDENTITY


def _jwt(*failures: str) -> Details:
    """What jwt_authn says of a token, as its details quote it."""
    return Details(tuple(f"jwt_authn_access_denied{{{failure.replace(' ', '_')}}}" for failure in failures))


_NO_KEY_FITS = "Jwks doesn't have key to match kid or alg from Jwt"
_KEYLESS = Noted(
    _jwt(_NO_KEY_FITS).texts[0], "envoy.filters.http.jwt_authn", "jwks_unavailable", _NO_KEY_FITS, ("message",)
)
"""An issuer whose keys are not known has one in their place that nobody can sign for (filters/jwt_authn.py)."""

TOKEN_REASONS: tuple[Reason, ...] = (
    Reason(
        "jwt-expired",
        _IDENTITY,
        401,
        "The token has expired.",
        "The client gets a new token; if it is, compare the clocks of issuer and proxy (60 s of skew are forgiven).",
        (_jwt("Jwt is expired"),),
    ),
    Reason(
        "jwt-not-yet-valid",
        _IDENTITY,
        401,
        "The token is not valid yet.",
        "Compare the clocks of issuer and proxy with the token's `nbf`.",
        (_jwt("Jwt not yet valid"),),
    ),
    Reason(
        "jwt-signature-invalid",
        _IDENTITY,
        401,
        "The token's signature is not that of its issuer.",
        "Look which key signed it (`kid`, `alg`), and whether the issuer's `jwks` has it; or there is no `exp` at all.",
        (_jwt("Jwt verification fails", "Jwt ED25519 signature is wrong length"),),
    ),
    Reason(
        "jwks-unavailable",
        _IDENTITY,
        401,
        "The keys of the token's issuer are not known.",
        "`jwksUri` did not answer, or not with keys: what Isthmus said when it fetched them is in its own log.",
        (_KEYLESS,),
    ),
    Reason(
        "jwt-key-unknown",
        _IDENTITY,
        401,
        "No key of the token's issuer fits the token.",
        "The issuer's key set has no key of that `kid` and `alg`: was the key rotated, or the algorithm changed?",
        (_jwt(_NO_KEY_FITS, "Jwt header [alg] is not supported"),),
    ),
    Reason(
        "jwt-issuer-unknown",
        _IDENTITY,
        401,
        "The token is of an issuer that is not known here.",
        "A RequestAuthentication must name exactly the token's `iss` (a slash at its end counts).",
        (_jwt("Jwt issuer is not configured"),),
    ),
    Reason(
        "jwt-audience-invalid",
        _IDENTITY,
        403,
        "The token is for another audience.",
        "The token's `aud` must have one of `jwtRules[].audiences`.",
        (_jwt("Audiences in Jwt are not allowed"),),
    ),
    Reason(
        "jwt-critical",
        _IDENTITY,
        403,
        "The token has a header that must be understood, and is not.",
        "Its header has `crit` (RFC 7515, section 4.1.11): the issuer leaves that out, or the token goes elsewhere.",
        (RuleNamed("isthmus-jwt-critical"),),
    ),
    Reason(
        "claim-unfit",
        _IDENTITY,
        503,
        "A claim of the token cannot be written as a header.",
        "`details` of the access log names the header: the issuer puts line breaks, or the like, into that claim.",
        (DetailsBegin(("filter_removed_required_request_headers{invalid_header_value",)),),
    ),
    Reason(
        "token-missing",
        _IDENTITY,
        401,
        "A token is needed.",
        "The request brought no token where the route asks for one: in another header than `jwtRules[]` say?",
        (_jwt("Jwt is missing"),),
    ),
    Reason(
        "jwt-malformed",
        _IDENTITY,
        401,
        "What stands where a token is expected is none.",
        "It cannot be read, or a claim is of the wrong type, or missing: `token_failure` in the access log.",
        (DetailsBegin(("jwt_authn_access_denied{",)),),
    ),
)
"""Of a request without any token nothing is said here: it goes on, and access control says what it may do."""

_LOGIN_FAILED = (
    "CSRF token validation failed",
    "Code or state query param",
    "Code verifier cookie is missing",
    "Failed to decrypt code verifier",
    "Failed to get access token",
    "OAuth server returned an error",
    "State query param",
    "State url",
)
"""How Envoy's oauth2 filter begins the details of what it refuses at the callback; in access logs ``_`` is a blank."""

CREDENTIAL_REASONS: tuple[Reason, ...] = (
    Reason(
        "credential-missing",
        _IDENTITY,
        401,
        "A credential is needed.",
        "The request brought none of those that the route's ClientAuthentication takes.",
    ),
    Reason(
        "credential-ambiguous",
        _IDENTITY,
        400,
        "The request brings more than one credential.",
        "Of an API key and a token, two keys, or tokens in two places, the client sends one: which of them counts, "
        "nobody behind could tell. Tokens in two places are refused with 403.",
        (RuleHolding("isthmus-two-tokens"),),
    ),
    Reason(
        "api-key-unknown",
        _IDENTITY,
        401,
        "The API key is not known.",
        "`isthmus consumer list` tells the ids of live keys; a key with a typing error fails its checksum.",
    ),
    Reason(
        "api-key-expired",
        _IDENTITY,
        401,
        "The API key has expired.",
        "`isthmus consumer` makes the consumer a new one.",
    ),
    Reason(
        "api-key-revoked",
        _IDENTITY,
        401,
        "The API key was revoked.",
        "`isthmus consumer` makes the consumer a new one, if that was not meant.",
    ),
    Reason(
        "consumer-unknown",
        _IDENTITY,
        401,
        "The credential is good, but of nobody who is known here.",
        "No `Consumer` has that name, or that certificate.",
    ),
    Reason(
        "token-inactive",
        _IDENTITY,
        401,
        "The token is not active.",
        "Its issuer says so (RFC 7662): it has expired, was revoked, or is of another issuer.",
    ),
    Reason(
        "token-not-bound",
        _IDENTITY,
        401,
        "The token is bound to another client certificate, or to none.",
        "Its `cnf.x5t#S256` must be the certificate that this very connection was opened with (RFC 8705).",
    ),
    Reason(
        "introspection-unavailable",
        _IDENTITY,
        503,
        "Whether the token is active could not be found out.",
        "The issuer's introspection endpoint did not answer in time, or refused our own credentials.",
    ),
    Reason(
        "login-required",
        _IDENTITY,
        401,
        "A login is needed.",
        "Browsers are sent to the provider; what cannot follow there is refused.",
        (DetailsBegin(("Unauthorized, and redirecting to OAuth server", "Failed to refresh the access token")),),
    ),
    Reason(
        "login-unavailable",
        _IDENTITY,
        503,
        "Logins are not possible here at the moment.",
        "Nothing is known of the provider yet (ISM7020 says why), or the Secret of the login's client is not there.",
        (Noted("lua_response", "isthmus.login", "reason", "login-unavailable"),),
    ),
    Reason(
        "login-failed",
        _IDENTITY,
        401,
        "The login did not succeed.",
        "The provider refused, or what came back from it was not what had been asked for.",
        (DetailsBegin(_LOGIN_FAILED),),
    ),
)

IDENTITY_REASONS: tuple[Reason, ...] = (
    Reason(
        "proxy-credential-invalid",
        _IDENTITY,
        407,
        "This proxy serves its own workload only.",
        "Calls go by the `http_proxy` of the program's own environment, which has the credential.",
        (RuleNamed("isthmus-proxy-authorization"),),
    ),
    Reason(
        "identity-revoked",
        _IDENTITY,
        403,
        "The caller's identity was revoked.",
        "`isthmus ca revoke` did that; `isthmus ca` tells what is revoked.",
        (RuleNamed("isthmus-revoked-identity"),),
    ),
    Reason(
        "peer-ambiguous",
        _IDENTITY,
        None,
        "The caller's certificate has more than one identity.",
        "An X.509-SVID has exactly one URI: mend whoever issues it.",
        (RuleNamed("isthmus-ambiguous-peer"),),
    ),
    Reason(
        "peer-is-ca",
        _IDENTITY,
        None,
        "The caller's certificate is that of a certificate authority.",
        "Connections are opened with leaf certificates.",
        (RuleNamed("isthmus-ca-peer"),),
    ),
    Reason(
        "misdirected",
        _IDENTITY,
        421,
        "This connection is for other hosts.",
        "The client opens a connection with the TLS server name of the host it asks for.",
        (OwnRoute("misdirected", 421), OwnRoute("elsewhere", 421)),
    ),
)
