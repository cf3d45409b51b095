"""Findings as annotations for label tools: COCO JSON, CVAT XML 1.1 and Label Studio JSON."""
