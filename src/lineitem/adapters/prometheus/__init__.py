"""Metrics in Prometheus' formats, as text and over HTTP."""
