"""Ingest: from the bytes of a source to decoded events, rejects, identities and raw segments."""
