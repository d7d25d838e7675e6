"""Trainings kept by MLflow: runs, metrics, registered models."""
