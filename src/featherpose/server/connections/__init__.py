"""Connections: accepting, deadlines, bounds, and the protocols of uvicorn with what they lack."""
