"""Annotations of CVAT, Label Studio, LabelMe, YOLO-pose and COCO, read into one form and written from it."""
