"""Evaluation of pre-trained backbones: fine-tuning, linear probe, nearest neighbours."""
