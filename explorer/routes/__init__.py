"""The plain routes behind the page, one file for each of the packages that they ask."""
