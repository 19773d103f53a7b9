"""Images, video and streams in; images and video out; drawing."""
