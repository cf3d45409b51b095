"""Findings: the anomalous regions of a survey as a table of their own, made from score maps alone."""
