"""The page's views, one file each, in the order of their tabs."""
