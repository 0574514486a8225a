"""Recipes, the a2mim command, benchmarks and results."""
