"""Branch off a recorded run: repeat it with the model up to a step, and go on from there another way."""
