"""Semantic segmentation: pictures with annotations, decoders on a backbone's features, a method for the one training
loop, and mIoU with its interval."""
