"""The folder being written: staged beside its place, then sealed by one rename."""
