"""What Rego policies say of requests: the engine, OPA-Envoy's documents, and the process that answers Envoy."""
