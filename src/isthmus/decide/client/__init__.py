"""Who a client is: the process that is asked about API keys, certificates' consumers, opaque and bound tokens."""
