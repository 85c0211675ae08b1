"""The gradients of a training: what is looked at, what it means in words, and what is a cure."""
