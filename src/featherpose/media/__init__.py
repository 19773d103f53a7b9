"""Pictures, video and streams in; pictures and video out; drawing."""
