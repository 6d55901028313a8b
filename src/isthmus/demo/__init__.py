"""What ``isthmus demo`` runs: a shop of three services, an identity provider for development, and their manifests."""
