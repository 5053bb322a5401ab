"""Where in the library a position is: frames and source text."""
