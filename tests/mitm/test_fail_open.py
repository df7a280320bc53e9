"""A bug of ours, at any hook or chunk, costs the client nothing."""
