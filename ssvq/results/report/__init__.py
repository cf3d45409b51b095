"""`ssvq report`: a survey as one self-contained HTML page, or as a PDF."""
