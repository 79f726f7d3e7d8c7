"""What the Attention view is served by: recorded images, photographs through a network, pictures to take away."""
