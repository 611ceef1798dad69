"""How far an exact form's answers may be from the trained network's. Here, since pages tell it that export nothing."""

EXACT = 1e-4  # share of pixels, and of the largest logit, that rounding may change
