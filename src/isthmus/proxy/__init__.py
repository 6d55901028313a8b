"""The machine's side: the Envoys, their keys and certificates, local programs, and who keeps them all alive."""
