"""One file an arm; ``registry`` names them."""
