"""What a run writes: shards, the manifest, and how both are read."""
