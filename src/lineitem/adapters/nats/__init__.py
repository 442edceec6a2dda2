"""Usage from NATS JetStream: a stream's sequence numbers as positions."""
