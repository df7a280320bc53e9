"""The second try: invisible, once, and gone when the client is."""
