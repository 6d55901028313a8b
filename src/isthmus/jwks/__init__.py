"""Issuers' public keys: fetched, checked, kept, and handed on as text that Envoy takes inline."""
