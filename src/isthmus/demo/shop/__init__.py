"""The shop: ``orders`` calls ``inventory`` and ``users``. Plain programs: security is their sidecars' work."""
