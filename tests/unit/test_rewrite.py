"""The smallest edit of a request, and the one frame that may be withheld."""
