"""Where raw segments are kept."""
