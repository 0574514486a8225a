"""Every method on a small ViT and a small CNN."""
