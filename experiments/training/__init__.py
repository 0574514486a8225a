"""What the commands that train and evaluate share: from what was asked to a trained run, its tables and pictures."""
