"""`ssvq check`: what a training or a scoring would see, before it."""
