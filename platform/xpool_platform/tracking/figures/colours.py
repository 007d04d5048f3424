"""The colours of all figures, which survive colour blindness: Okabe and Ito 2008."""

BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#8C8C8C"

T2V = BLUE
V2T = ORANGE
DIRECTION = {"t2v": T2V, "v2t": V2T}

ATTENTION = BLUE
MEAN_POOLING = BLACK
CHANCE = GREY
TRUTH = GREEN
