"""A bug of ours, at any hook or chunk, costs the client nothing. (Being written by proofs-4.)"""
