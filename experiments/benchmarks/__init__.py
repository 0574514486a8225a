"""Benchmarks that the a2mim bench command runs."""
