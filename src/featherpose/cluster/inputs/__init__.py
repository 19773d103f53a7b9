"""What a run works on: units from sources, and the plan that puts each of them into one shard."""
