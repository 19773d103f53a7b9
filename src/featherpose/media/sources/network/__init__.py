"""Sources behind an address: cameras, streams that come back, images and videos over HTTP."""
