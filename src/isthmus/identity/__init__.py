"""Who is who: the certificate authority, X.509-SVIDs, and the service that gives them to node agents."""
