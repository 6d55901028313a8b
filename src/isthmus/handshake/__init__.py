"""Handshakes that fail: heard from the proxies, told with a reason, and held against clients that go on."""
