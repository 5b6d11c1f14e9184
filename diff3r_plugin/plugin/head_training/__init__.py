"""The head beside the host: its state, optimizer, checkpoints, and what it adds to the loss."""
