"""Every module has its tests where one looks for them."""
