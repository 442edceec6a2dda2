"""Tools without domain words: the database, binary COPY, SQL files, raw blobs, configuration."""
