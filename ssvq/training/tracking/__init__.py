"""Tracking: a training shown in MLflow or Weights & Biases too, while nothing depends on it."""
