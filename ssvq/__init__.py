"""ssvq: semi-supervised VQ-VAE anomaly detection for industrial inspection, as Ray batch jobs."""

__version__ = "0.1.0"
