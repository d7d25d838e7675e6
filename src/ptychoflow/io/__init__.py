"""File formats of this project's own products, each written atomically and checked when it is read."""
