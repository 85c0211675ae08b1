"""Where ticks come from: one file a venue or archive; past trades, and those of now."""
