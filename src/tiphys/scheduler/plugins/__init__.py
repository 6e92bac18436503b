"""The plugins: one file each, under upstream's names. ``registry`` lists them with their default order and weights."""
