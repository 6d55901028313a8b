"""Certificates a second on one core: read the request, check it, sign."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from isthmus.identity.authority import Authority, create_intermediate, create_root
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.validate import read_csr

ROUNDS = 5
EACH = 1_000


def measure() -> Iterator[tuple[str, str, list[float]]]:
    now = datetime.now(UTC)
    root, root_key = create_root("cluster.local", now)
    intermediate, key = create_intermediate("cluster.local", root, root_key, now)
    authority = Authority("cluster.local", root, (intermediate,), key)
    wanted = SpiffeId.workload("cluster.local", "bench", "a")
    private = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(private, hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM)
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(EACH):
            authority.issue(read_csr(pem), wanted, timedelta(hours=1), now)
        rounds.append(EACH / (time.process_time() - started))
    yield f"P-256 certificates, {EACH} a round", "1/s of a core", rounds
