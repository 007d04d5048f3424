"""From a model and a split to embeddings, ranks and a report."""
