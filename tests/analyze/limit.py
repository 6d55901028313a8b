"""RateLimitPolicies for checks."""

from __future__ import annotations


def limits(limits: str, attached: str = "{}", **more: str) -> str:
    """Its spec's ``limits`` stand on line 5 of the document."""
    extra = "".join(f"  {name}: {value}\n" for name, value in more.items())
    head = "apiVersion: isthmus.dev/v1alpha1\nkind: RateLimitPolicy\nmetadata: {name: it, namespace: shop}\n"
    attach = "" if attached == "{}" else f"  {attached}\n"
    return f"{head}spec:\n  limits: {limits}\n{attach}{extra}"
