"""The command line: what it prints and how it exits is a contract (docs/reference/cli.md)."""
