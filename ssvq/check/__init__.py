"""`ssvq check`: shows what a training or a scoring would see, before it starts."""
