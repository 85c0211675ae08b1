"""Is it any good? Held-out scores, folds, comparison, audit, costs and report."""
