"""The pure room of rating: which price fits, what a meter reads, what the quantity costs. Columns in, columns out."""
