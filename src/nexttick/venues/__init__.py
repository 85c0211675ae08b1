"""Where ticks come from: one file a venue or archive, and a simulated market beside them."""
