"""Estimators of multi-order interactions: from a game to Interactions."""
