"""Tensor arithmetic shared by methods and executor; nothing here knows a method or a file."""
