"""The tick record, and all that comes before an event."""
