"""A codec of images by the codes of an autoencoder: entropy coding, tiles, and files of their own."""
