"""Training through skorch: net, batches, callbacks, checkpoints."""
