"""Feature flags: whom a flag of somebody else's flag file chooses."""
