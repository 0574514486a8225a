"""Drawing, from result tables alone."""
