"""Schemas of the events' data: versions by subject, three formats, what may change, the wire format of Kafka clients."""
