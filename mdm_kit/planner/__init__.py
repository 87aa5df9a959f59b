"""From a recipe and headers to a plan: every node, order, cost and finding, no weight read."""
