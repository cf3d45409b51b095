"""The hand-over document of a survey: a PDF for A4 or Letter."""
