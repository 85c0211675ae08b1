"""nexttick: does the price rise next? Learning it from trade ticks, and judging it honestly."""

__version__ = "0.1.0"
