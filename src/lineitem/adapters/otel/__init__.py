"""Traces of batches, exported by OpenTelemetry's protocol."""
