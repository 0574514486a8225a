"""Measure multi-order patch interactions of any torch image model."""
