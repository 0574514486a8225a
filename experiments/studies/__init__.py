"""Whole studies, one command each: `a2mim reproduce` cifar10, imagenet, lite0 and transfer."""
