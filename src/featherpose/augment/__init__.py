"""Graphics that follow people, and heads that are hidden."""
