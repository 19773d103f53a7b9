"""What networks cost by counting: weights and multiplications."""
