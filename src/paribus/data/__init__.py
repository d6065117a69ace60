"""Text to batches: sources, documents, splits, tokens, windows, pairs."""
