"""Reading fetched datasets."""
