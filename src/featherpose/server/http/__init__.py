"""HTTP plumbing: limits, errors, security, metrics."""
