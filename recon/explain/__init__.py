"""Why a model says or makes what it does: attribution to pixels, its checks, and what layers respond to."""
