"""The health of gradients: what is looked at during training, and what it means in words."""
