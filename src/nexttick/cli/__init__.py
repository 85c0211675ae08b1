"""The commands: what a user types, and what is printed."""
