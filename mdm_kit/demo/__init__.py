"""A small family of really trained models, made from nothing but what ships with Python."""
