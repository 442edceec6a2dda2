"""The ledger: post, chain, verify, periods, balances. PostgreSQL is the ledger, not a swappable engine."""
