"""The networks: layers, models, what their gradients say, experiments."""
