"""Whole studies, one command each: `a2mim reproduce cifar10` and `a2mim reproduce imagenet`."""
