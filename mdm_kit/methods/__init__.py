"""Merge methods, one file each; nothing here reads a file or knows a tensor's name."""
