"""The server: pictures and frames come in over HTTP and WebSocket, people go out; and the page that shows them."""
