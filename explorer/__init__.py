"""The explorer: start low-label runs in the browser, watch them live, compare attention for every image and epoch."""
