"""The report of a survey for a client: a PDF on A4 or Letter."""
