"""Model cards, bundled weights, downloads and their verification."""
