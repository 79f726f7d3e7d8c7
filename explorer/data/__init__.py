"""What the Data view is served by: the datasets found, what is in one of them, its problems, sets of one's own."""
