"""Methods that find boxes first and keypoints in them: Mask R-CNN and MultiPoseNet."""
