"""What helps to write a recipe: its JSON Schema, starters for a goal, an example of each method.

Everything is made from the recipe's keys and the registry of methods, so that none of it can say
what the reader of recipes does not.
"""
