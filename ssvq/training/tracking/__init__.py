"""Tracking: shows a training in MLflow or Weights & Biases too. Nothing depends on it."""
