"""Schemas from a registry that speaks Confluent's REST."""
