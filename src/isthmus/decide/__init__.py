"""Decision processes: children of a node's supervisor that answer what its Envoys ask."""
