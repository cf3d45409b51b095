"""Hand-over: a trained model as one file for other runtimes."""
