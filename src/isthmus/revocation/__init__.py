"""Who is revoked: lists (CRL) and answers (OCSP), fetched, verified, kept, and handed on for Envoy to go by."""
