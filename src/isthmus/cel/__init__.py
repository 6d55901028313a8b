"""Conditions in CEL: text, checked and turned into what Envoy evaluates by itself.

``language`` (text → checked expression), ``survey`` (what it asks for, and what Envoy could not answer), ``attribute``
(our variables → Envoy's attributes), ``need`` and ``never`` (what follows from it without a request), ``verdict``
(evaluation without Envoy, by the same engine).
"""
