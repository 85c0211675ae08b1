"""The gradient lab: experiments on how error signals fade and explode, drawn and in numbers."""
