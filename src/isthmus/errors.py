"""What the program or the world broke (the user's faults are ``diag.Diagnostic`` values).

IsthmusError
├── Refused              the request of a person or a peer cannot be granted; the command ends with exit 1, no trace
│   ├── StateHeld        another process holds the state directory
│   ├── StateUnusable    the state directory cannot be made, read or written
│   ├── PortTaken        a published port belongs to somebody else
│   ├── ManifestsBroken  a first start whose manifests have errors
│   ├── Unreachable      the control plane of this state does not answer
│   └── CredentialsUnavailable  the store of consumers' credentials cannot be opened, read or written
├── VerificationFailed   something did not prove what it claimed
│   ├── CsrRejected      a certificate request that may not be signed
│   ├── NotEnrolled      an unknown or used join token, or a node that may not hold the identity it asks for
│   ├── SpiffeIdInvalid  not a SPIFFE ID
│   └── SvidInvalid      not an X.509-SVID of this trust domain
├── JwksUnavailable      an issuer's keys could not be fetched or read
├── IntrospectionUnavailable  whoever gave a token could not be asked about it, or gave no answer
├── RevocationUnavailable  what says who is revoked could not be fetched, read or believed
├── BundleUnavailable    another trust domain's bundle could not be fetched or read
├── RegoBundleRefused    a Rego bundle could not be fetched, read or believed
├── PolicyBroken         a Rego policy that cannot be compiled, or may not decide
├── Undecided            a Rego policy failed on a request
└── EnvoyFailed          an Envoy could not be found, started or spoken to
"""

from __future__ import annotations


class IsthmusError(Exception):
    """The root of the tree."""


class Refused(IsthmusError):
    pass


class StateHeld(Refused):
    pass


class StateUnusable(Refused):
    pass


class PortTaken(Refused):
    pass


class ManifestsBroken(Refused):
    pass


class Unreachable(Refused):
    pass


class CredentialsUnavailable(Refused):
    pass


class CredentialsOutOfReach(CredentialsUnavailable):
    """Whoever has them does not answer, for now."""


class VerificationFailed(IsthmusError):
    pass


class CsrRejected(VerificationFailed):
    pass


class NotEnrolled(VerificationFailed):
    pass


class SpiffeIdInvalid(VerificationFailed):
    pass


class SvidInvalid(VerificationFailed):
    pass


class JwksUnavailable(IsthmusError):
    pass


class IntrospectionUnavailable(IsthmusError):
    pass


class RevocationUnavailable(IsthmusError):
    pass


class BundleUnavailable(IsthmusError):
    pass


class RegoBundleRefused(IsthmusError):
    pass


class PolicyBroken(IsthmusError):
    pass


class Undecided(IsthmusError):
    pass


class EnvoyFailed(IsthmusError):
    pass
