"""The cache on disk: store, placement in `data/`, and states; see `store` for the layout."""
