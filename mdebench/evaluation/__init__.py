"""Measuring: what a protocol is given, passes over a pack, readouts, metrics, the judge.

A protocol's file imports what stands here; more has modules of its own: ``readouts``, ``metrics``, ``scenarios``,
``scores``, ``tasks``, ``lpips``, ``judge``.
"""
