"""Trained networks as files: the checkpoint and the folder that MLflow keeps, plain tensors and no pickle."""
