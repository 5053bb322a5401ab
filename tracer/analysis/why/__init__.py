"""Why a token was chosen or not, and the smallest change that would have kept it."""
