"""What the commands that measure share: what is opened, probed and played, and what stands beside another run."""
