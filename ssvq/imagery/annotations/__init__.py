"""Annotations of label tools as labels to train on: COCO JSON, CVAT XML 1.1 and Label Studio JSON."""
