"""What runs where the data is read: one process per rank, the same locally and in a pod."""
