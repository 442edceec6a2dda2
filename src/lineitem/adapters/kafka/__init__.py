"""Usage from Kafka: a topic's partitions as streams, read by any number of workers of one consumer group."""
