"""The SPIFFE Workload API of this machine's agent: who calls, what that process may be, and its SVIDs."""
