"""Past trades from a venue's REST interface, page by page."""
