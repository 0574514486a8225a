"""Train A²MIM and its baselines on any timm backbone."""
