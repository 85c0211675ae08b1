"""Live feeds: each trade once and in order, or a gap."""
