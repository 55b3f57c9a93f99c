"""What `deltaserve forget` does between its options and its stages."""
