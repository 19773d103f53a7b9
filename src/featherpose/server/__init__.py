"""The HTTP and WebSocket server and its page."""
