"""The search: configuration, evaluation, strategies, front, report."""
